"""Reading one image file, whatever its mode, as the RGB array that everything else works on."""

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
from PIL import Image, UnidentifiedImageError

from bloodcell.runtime.errors import BloodcellError

#: Endings that count as images, in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

# Pillow warns of slightly odd metadata and of large sizes, which have their own limit below. Once and for all:
# `catch_warnings` around each image is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: Largest image that is decoded: 100 megapixels, some 300 MB as RGB. Larger headers are refused undecoded.
MAX_PIXELS = 100_000_000

#: Longest side of an image that is decoded, pixels: to scale one of few columns and millions of rows takes many times
#: the memory of its pixels.
MAX_SIDE = 100_000

#: What is read of all that Pillow knows: EPS, for one, it hands to a program that interprets it.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF")

_ORIENTATION = 0x0112  # EXIF's tag
_UPRIGHT = {  # its value -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MOST_BYTES = 2**26  # of a JPEG that is read at once; a larger file is read as it is needed


class ImageError(BloodcellError):
    """An image file that cannot be read; the message is the reason, without the path."""


def read_image(path: str | Path | bytes, max_pixels: int | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode an image file completely, into an array of its own, uint8 (H, W, 3), upright.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled by 1/256, whole numbers of 32 bits
    too where one is above 255, floating point of 0 to 1 by 255; palette, grey and CMYK become RGB. Of an animation or a
    multi-page file the first frame counts. Damaged EXIF is as good as none.

    Args:
        path: The file, or what it holds.
        max_pixels: The largest image that is decoded; None: `MAX_PIXELS`.

    Raises:
        ImageError: The file is missing, no regular file, empty, truncated, too large, or no image.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    size = len(path) if isinstance(path, bytes) else _size(path)
    try:
        content = path if isinstance(path, bytes) else _content(path) if size < _MOST_BYTES else None
        if content and (pixels := _plain_jpeg(content, limit)) is not None:
            return pixels
        with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > limit:
                raise ImageError(f"{image.width} x {image.height} pixels; the limit is {limit:,}")
            if max(image.size) > MAX_SIDE:
                raise ImageError(f"{image.width} x {image.height} pixels; a side may have {MAX_SIDE:,}")
            image.load()
            return np.array(to_rgb(image))  # a copy: torch wants writable memory
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("empty file" if size == 0 else "not an image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {limit:,} pixels") from error
    except MemoryError as error:
        raise ImageError("does not fit into memory") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not the decoder's
            raise _unreadable(error) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot be decoded: {reason}") from error


def _plain_jpeg(content: bytes, limit: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Decode a JPEG of three channels that has no EXIF and is in perfect order; None of all else, which is Pillow's.

    The decoder is the library that Pillow has, with the same pixels, in two thirds of the time. It refuses whatever is
    odd in a file, and Pillow then tells what is damaged from what is merely odd.
    """
    if not content.startswith(b"\xff\xd8\xff") or b"Exif" in content:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        return simplejpeg.decode_jpeg(content, "RGB") if space == "YCbCr" and height * width <= limit else None
    except ValueError:
        return None


def _content(path: str | Path) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a buffer, and a Path, take as long as reading
        return file.read()


def _size(path: str | Path) -> int:
    """Return the size of a file, bytes.

    Raises:
        ImageError: It is missing, cannot be looked at, or is no regular file.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - one look in place of two
    except OSError as error:
        raise _unreadable(error) from error
    except ValueError as error:  # a name that no file can have
        raise ImageError("no such file") from error
    if stat.S_ISDIR(found.st_mode) and not os.access(path, os.R_OK | os.X_OK):
        raise ImageError(f"cannot be read: {os.strerror(errno.EACCES)}")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError("not a regular file")
    return found.st_size


def _unreadable(error: OSError) -> ImageError:
    """Return what the system says of a file, without its path."""
    return ImageError("no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded Pillow image upright and as RGB; see `read_image` for the rules."""
    turn = _turn(image)
    image = image if turn is None else image.transpose(turn)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        # of 32-bit numbers both ranges are in use; 0 to 255 would else be all black
        grey = grey if image.mode == "I" and grey.max() <= 255 else grey >> 8
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        grey = np.asarray(image)
        if not np.isfinite(grey).all():
            raise ImageError("floating-point pixels that are not finite")
        grey = grey * 255 if grey.max() <= 1 else grey  # both ranges are in use; 0 to 1 would else be all black
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what turns a picture upright by its EXIF; None where it is, or where the EXIF is damaged."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's reader of EXIF fails in many ways, and the picture is as good as without
        return None
