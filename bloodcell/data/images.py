"""Reading an image file of any mode as an upright RGB array."""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bloodcell.runtime.errors import BloodcellError

Pixels = NDArray[np.uint8]

#: Endings of image files, in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

# Pillow warns about odd metadata and about large sizes, which have their own limit below. The filter is set once:
# `catch_warnings` around each image is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: Largest image that is decoded: 100 megapixels, some 300 MB as RGB. The header is checked before decoding.
MAX_PIXELS = 100_000_000

#: Longest side of an image that is decoded, pixels. Resizing an image with few columns and millions of rows takes many
#: times the memory of its pixels.
MAX_SIDE = 100_000

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
_MOST_BYTES = 2**26  # a larger file is not read into memory at once


class ImageError(BloodcellError):
    """An image file that cannot be read; the message gives the reason, without the path."""


def read_image(path: str | Path | bytes, max_pixels: int | None = None) -> Pixels:
    """Decode an image file completely into a new array, uint8 (H, W, 3), upright.

    EXIF rotation is applied and damaged EXIF ignored. Transparent pixels are put on white. 16-bit grey is divided by
    256, and so are 32-bit integers if one is above 255; floating point from 0 to 1 is multiplied by 255. Palette, grey
    and CMYK become RGB. Only the first frame of an animation or a multi-page file is read.

    Args:
        path: The file, or its content.
        max_pixels: The largest image that is decoded; None: `MAX_PIXELS`.

    Raises:
        ImageError: The file is missing, not a regular file, empty, truncated, too large, or not an image.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    size = len(path) if isinstance(path, bytes) else _file_size(path)
    try:
        return _decode(path, size, limit)
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


def _decode(path: str | Path | bytes, size: int, limit: int) -> Pixels:
    content = path if isinstance(path, bytes) else _content(path) if size < _MOST_BYTES else None
    if content and (pixels := _plain_jpeg(content, limit)) is not None:
        return pixels
    with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as image:
        if image.width * image.height > limit:
            raise ImageError(f"{image.width} x {image.height} pixels; the limit is {limit:,}")
        if max(image.size) > MAX_SIDE:
            raise ImageError(f"{image.width} x {image.height} pixels; the limit of a side is {MAX_SIDE:,}")
        image.load()
        return np.array(to_rgb(image))  # a copy, because torch needs writable memory


def _plain_jpeg(content: bytes, limit: int) -> Pixels | None:
    """Decode an undamaged JPEG with three channels and without EXIF; return None for anything else.

    simplejpeg uses the same library as Pillow and gives the same pixels in two thirds of the time. It refuses any
    irregular file; Pillow then decides whether the file is damaged.
    """
    if not content.startswith(b"\xff\xd8\xff") or b"Exif" in content:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        return simplejpeg.decode_jpeg(content, "RGB") if space == "YCbCr" and height * width <= limit else None
    except ValueError:
        return None


def _content(path: str | Path) -> bytes:
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
    """Return a decoded Pillow image upright and as RGB; `read_image` gives the rules."""
    transposition = _transposition(image)
    image = image if transposition is None else image.transpose(transposition)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        # 32-bit files use either range; dividing 0 to 255 by 256 would give a black image
        return _grey_to_rgb(grey if image.mode == "I" and grey.max() <= 255 else grey >> 8)
    if image.mode == "F":
        grey = np.asarray(image)
        if not np.isfinite(grey).all():
            raise ImageError("floating-point pixels that are not finite")
        return _grey_to_rgb(grey * 255 if grey.max() <= 1 else grey)  # both ranges are in use
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey_to_rgb(grey: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


def _transposition(image: Image.Image) -> Image.Transpose | None:
    """Return what turns an image upright; None if it is upright or its EXIF is damaged."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's EXIF reader fails in many ways, and the image is usable without EXIF
        return None
