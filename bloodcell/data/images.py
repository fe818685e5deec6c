"""Reading an image file of any mode as an upright RGB array."""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bloodcell.data.deep_images import DeepImage, is_tiff, read_deep_png, read_deep_pnm, read_deep_tiff
from bloodcell.data.image_limits import MAX_PIXELS, ImageError, require_size
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

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # its value -> the transposition that turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXTRA_SAMPLES = 338  # the TIFF tag
_MOST_BYTES = 2**26  # a larger file is not read into memory at once


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
    if content and (pixels := _plain_jpeg(content, limit)) is not None:
        return Picture(pixels)
    tiff = is_tiff(_start(path) if content is None else content[:4])
    if tiff and (deep := read_deep_tiff(path if content is None else content, limit)) is not None:
        return _developed(deep, deep.orientation, white)
    with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as image:
        require_size(image.width, image.height, limit)
        image.load()
        read_deep = {"PNG": read_deep_png, "PPM": read_deep_pnm}.get(image.format or "")
        if read_deep and (deep := read_deep(_content(path) if content is None else content)) is not None:
            return _developed(deep, _orientation_of(image), white)
        return Picture(np.array(to_rgb(image)))  # a copy, because torch needs writable memory


def _developed(deep: DeepImage, orientation: int, white: float | None) -> Picture:
    """Return the picture of deep values; `white` as in `read_picture`."""
    image, assumed = _to_8_bits(deep, white)
    return Picture(np.array(to_rgb(_upright(image, orientation))), assumed)


def _to_8_bits(deep: DeepImage, least: float | None = None) -> tuple[Image.Image, float | None]:
    """Return an image of 8 bits a channel, and the white that was assumed; None: the file declares it."""
    values = deep.values
    if not np.isfinite(values).all():
        raise ImageError("floating-point pixels that are not finite")
    has_alpha = values.ndim == 3 and values.shape[2] in (2, 4) and not deep.cmyk
    colours = values[..., :-1] if has_alpha else values
    if (white := deep.white) is None:
        white = white_of(colours)
        white = max(white, least or 0) if white != 1 else white
    eight = to_8_bits(colours, white)
    eight = 255 - eight if deep.white_is_zero else eight
    if has_alpha:
        alpha = to_8_bits(values[..., -1], white_of(values[..., -1]))
        eight = np.concatenate([eight, alpha[..., None]], axis=2)
    eight = np.ascontiguousarray(eight)
    mode = "CMYK" if deep.cmyk else ("La", "RGBa")[eight.shape[2] == 4] if deep.premultiplied and alpha.any() else None
    size = eight.shape[1::-1]
    image = Image.fromarray(eight) if mode is None else Image.frombytes(mode, size, eight.tobytes())
    return image, white if deep.white is None else None


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
        return file.read(4)


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded Pillow image upright and as RGB; `read_picture` gives the rules."""
    without_alpha = image.mode == "RGBA" and image.format == "TIFF" and not _declares_alpha(image)
    image = _upright(image, _orientation_of(image))
    if without_alpha or (image.mode == "RGB" and "transparency" not in image.info):
        return image.convert("RGB")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _to_8_bits(DeepImage(np.asarray(image)))[0].convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("LA") if image.mode == "La" else image
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _declares_alpha(image: Image.Image) -> bool:
    """Return whether the fourth channel of a TIFF file is alpha: its tag ExtraSamples is 1 or 2."""
    extra = getattr(image, "tag_v2", {}).get(_EXTRA_SAMPLES, ())
    return bool(extra) and extra[0] in (1, 2)


def _on_white(image: Image.Image) -> Image.Image:
    """Put an RGBA image on white. Alpha that is 0 everywhere was never meant; alpha of 0 and 1 means 0 and 255."""
    lowest, highest = image.getchannel("A").getextrema()
    if highest == 0 or (lowest == highest == 1):
        return image.convert("RGB")
    if highest == 1:
        image.putalpha(image.getchannel("A").point(lambda alpha: 255 * alpha))
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    transposition = _UPRIGHT.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _orientation_of(image: Image.Image) -> int:
    """Return an image's EXIF or XMP orientation; 1 if it is upright or its EXIF is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's EXIF reader fails in many ways, and the image is usable without EXIF
        return 1
