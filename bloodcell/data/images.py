"""Reading an image file of any mode as an upright RGB array."""

from __future__ import annotations

import errno
import io
import mmap
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bloodcell.data.deep_images import START, DeepImage, declared_white, is_tiff, read_deep, read_deep_tiff
from bloodcell.data.image_limits import MAX_PIXELS, ImageError, require_size
from bloodcell.data.image_parts import require_few_parts
from bloodcell.data.time_limit import timed
from bloodcell.data.value_range import to_8_bits, white_of

Pixels = NDArray[np.uint8]

#: Endings of image files, in lower case.
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".png", ".apng", ".bmp", ".tif", ".tiff",
    ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip

# Pillow warns about odd metadata and about large sizes, which have their own limit below. The filter is set once:
# `catch_warnings` around each image is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: The formats that are read. Pillow knows more, but passes EPS, for example, to an external interpreter.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF")

#: Bytes that a pixel takes in kinds of files that take more than 10, by Pillow's format and mode.
MEMORY = {("JPEG", "CMYK"): 15, ("WEBP", "RGB"): 16, ("WEBP", "RGBA"): 16}

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {  # its value -> what turns the image upright
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
_EXTRA_SAMPLES = 338  # the TIFF tag
_MOST_BYTES = 2**26  # a larger file is not read into memory at once
_STRIP = 2**20  # pixels that are converted at once: copies of a whole image would take a gigabyte


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, upright.
        white: The value that was taken for white, because the file does not declare it; None: 8 bits, or declared.
    """

    pixels: Pixels
    white: float | None = None


def read_image(path: str | Path | bytes, max_pixels: int | None = None, white: float | None = None) -> Pixels:
    """Return the pixels of `read_picture`, which describes arguments and errors."""
    return read_picture(path, max_pixels, white).pixels


def read_picture(path: str | Path | bytes, max_pixels: int | None = None, white: float | None = None) -> Picture:
    """Decode an image file completely into a new array, uint8 (H, W, 3), upright.

    EXIF or XMP rotation is applied and damaged EXIF ignored. Transparent pixels are put on white, but an alpha channel
    that is 0 everywhere is ignored. More than 8 bits, and floating point, are scaled to 0 to 255 by the white that the
    file declares, else by the smallest usual one that holds its values; see `bloodcell.data.value_range`. Palette,
    grey and CMYK become RGB. Of an animation or a file of several pages the first is read, but three grey pages of a
    TIFF file are red, green and blue.

    Args:
        path: The file, or its content.
        max_pixels: The largest image that is decoded; None: `MAX_PIXELS`.
        white: The least white of files that declare none, so that a dark image of a data set stays dark.

    Raises:
        ImageError: The file is missing, not a regular file, empty, truncated, too large, or not an image.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    size = len(path) if isinstance(path, bytes) else _file_size(path)
    try:
        with timed(f"{'the image' if isinstance(path, bytes) else path}: decoding"):
            return _decode(path, size, limit, white)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("empty file" if size == 0 else "not an image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {limit:,} pixels") from error
    except MemoryError as error:
        raise ImageError("does not fit into memory") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # from the system, not from the decoder
            raise _system_error(error) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot be decoded: {reason}") from error


def _decode(path: str | Path | bytes, size: int, limit: int, white: float | None) -> Picture:
    content = path if isinstance(path, bytes) else _content(path) if size < _MOST_BYTES else None
    _check_parts(path, content)
    if content and (pixels := _plain_jpeg(content, limit)) is not None:
        return Picture(pixels)
    start = _start(path) if content is None else content[:START]
    if is_tiff(start) and (deep := read_deep_tiff(path if content is None else content, limit)) is not None:
        return _developed(deep, deep.orientation, white)
    with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as image:
        white_of_file = declared_white(start)
        require_size(image.width, image.height, limit, _bytes_each(image, white_of_file is not None))
        image.load()
        if white_of_file is None:
            return Picture(rgb_of(image))
        orientation = _orientation_of(image)
        image.close()  # frees its pixels
    return _developed(read_deep(_content(path) if content is None else content, white_of_file), orientation, white)


def _bytes_each(image: Image.Image, deep: bool) -> int:
    """Return the memory that decoding takes for a pixel, if it is more than usual; else 0."""
    if deep:
        return {1: 10, 3: 22}.get(len(image.getbands()), 28)  # the file's content and two copies of its values
    return MEMORY.get((image.format or "", image.mode), 0)


def _check_parts(path: str | Path | bytes, content: bytes | None) -> None:
    if isinstance(path, bytes) or content is not None:
        require_few_parts(content or b"")
        return
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        require_few_parts(mapped)


def _developed(deep: DeepImage, orientation: int, white: float | None) -> Picture:
    """Return the picture of deep values; `white` as in `read_picture`."""
    image, assumed = _to_8_bits(deep, white)
    return Picture(_upright(image if isinstance(image, np.ndarray) else rgb_of(image), orientation), assumed)


def _to_8_bits(deep: DeepImage, least: float | None = None) -> tuple[Pixels | Image.Image, float | None]:
    """Return RGB or an image of 8 bits a channel, and the white that was assumed; None: the file declares it."""
    values = deep.values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError("floating-point pixels that are not finite")
    has_alpha = values.ndim == 3 and values.shape[2] in (2, 4) and not deep.cmyk
    colours = values[..., :-1] if has_alpha else values
    if (white := deep.white) is None:
        white = white_of(colours)
        white = max(white, least or 0) if white != 1 else white
    eight = to_8_bits(colours, white)
    if deep.white_is_zero:
        np.subtract(255, eight, out=eight)
    if has_alpha:
        alpha = to_8_bits(values[..., -1], white_of(values[..., -1]))
        eight = np.concatenate([eight, alpha[..., None]], axis=2)
    assumed = white if deep.white is None else None
    if eight.ndim == 2:
        return np.repeat(eight[..., None], 3, axis=2), assumed
    if eight.shape[2] == 3:
        return eight, assumed
    mode = "CMYK" if deep.cmyk else ("La", "RGBa")[eight.shape[2] == 4] if deep.premultiplied and alpha.any() else None
    size = eight.shape[1::-1]
    return Image.fromarray(eight) if mode is None else Image.frombytes(mode, size, eight.tobytes()), assumed


def _plain_jpeg(content: bytes, limit: int) -> Pixels | None:
    """Decode an undamaged JPEG with three channels and without EXIF or XMP rotation; return None for anything else.

    simplejpeg uses the same library as Pillow and gives the same pixels in two thirds of the time. It refuses any
    irregular file; Pillow then decides whether the file is damaged.
    """
    if not content.startswith(b"\xff\xd8\xff") or b"Exif" in content or b"Orientation" in content:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        return simplejpeg.decode_jpeg(content, "RGB") if space == "YCbCr" and height * width <= limit else None
    except ValueError:
        return None


def _start(path: str | Path | bytes) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as below
        return file.read(START)


def _content(path: str | Path | bytes) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - buffering and Path would double the time
        return file.read()


def _file_size(path: str | Path) -> int:
    """Return the size of a regular file in bytes; raise an ImageError if there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - one system call instead of two
    except OSError as error:
        raise _system_error(error) from error
    except ValueError as error:  # an impossible file name
        raise ImageError("no such file") from error
    if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
        raise ImageError(f"cannot be read: {os.strerror(errno.EACCES)}")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    return status.st_size


def _system_error(error: OSError) -> ImageError:
    return ImageError("no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}")


def rgb_of(image: Image.Image) -> Pixels:
    """Return a decoded Pillow image upright, uint8 (H, W, 3); `read_picture` gives the rules."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        pixels, _ = _to_8_bits(DeepImage(np.asarray(image)))
        assert isinstance(pixels, np.ndarray)
        return _upright(pixels, _orientation_of(image))
    convert, rows = _conversion(image), max(1, _STRIP // image.width)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image, rows):
        pixels[top : top + rows] = np.asarray(convert(strip))
    return _upright(pixels, _orientation_of(image))


def _strips(image: Image.Image, rows: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield an image in strips of some rows, each with its first row."""
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield top, image if bottom - top == image.height else image.crop((0, top, image.width, bottom))


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what turns a part of an image into RGB."""
    without_alpha = image.mode == "RGBA" and image.format == "TIFF" and not _declares_alpha(image)
    transparent = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    if without_alpha or not transparent:
        return lambda part: part.convert("RGB")

    def rgba(part: Image.Image) -> Image.Image:
        return (part.convert("LA") if part.mode == "La" else part).convert("RGBA")

    strips = _strips(image, max(1, _STRIP // image.width))
    extremes = [rgba(strip).getchannel("A").getextrema() for _, strip in strips]
    lowest, highest = min(low for low, _ in extremes), max(high for _, high in extremes)
    return lambda part: _on_white(rgba(part), lowest, highest)


def _declares_alpha(image: Image.Image) -> bool:
    """Return whether the fourth channel of a TIFF file is alpha: its tag ExtraSamples is 1 or 2."""
    extra = getattr(image, "tag_v2", {}).get(_EXTRA_SAMPLES, ())
    return bool(extra) and extra[0] in (1, 2)


def _on_white(image: Image.Image, lowest: Any, highest: Any) -> Image.Image:
    """Put RGBA on white. Alpha that is 0 everywhere was never meant; alpha of 0 and 1 means 0 and 255."""
    if highest == 0 or (lowest == highest == 1):
        return image.convert("RGB")
    if highest == 1:
        image.putalpha(image.getchannel("A").point(lambda alpha: 255 * alpha))
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _orientation_of(image: Image.Image) -> int:
    """Return an image's EXIF or XMP orientation; 1 if it is upright or its EXIF is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's EXIF reader fails in many ways, and the image is usable without EXIF
        return 1
