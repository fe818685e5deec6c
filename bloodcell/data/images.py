"""Reading one image file, whatever its mode, as the RGB array that everything else works on."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from bloodcell.errors import BloodcellError

#: Endings that count as images, in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

# Pillow warns of slightly odd metadata and of large sizes, which have their own limit below. Once and for all:
# `catch_warnings` around each image is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: Largest image that is decoded: 100 megapixels, some 300 MB as RGB. Larger headers are refused undecoded.
MAX_PIXELS = 100_000_000

_ORIENTATION = 0x0112  # EXIF's tag
_MOST_BYTES = 2**26  # of a JPEG that is read at once; a larger file is read as it is needed

#: A file, or the content of one.
Source = str | Path | bytes


class ImageError(BloodcellError):
    """An image file that cannot be read; the message is the reason, without the path."""


def read_image(source: Source) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture as an array of its own, uint8 (H, W, 3), for the rules see `open_image`.

    The pixels are the same, at twice the rate where it is a plain JPEG.
    """
    with _opened(source) as image:
        if (pixels := _plain_jpeg(image)) is not None:
            return pixels
        image.load()
        return np.array(to_rgb(image))  # a copy: torch wants writable memory


def open_image(source: Source) -> Image.Image:
    """Decode an image completely.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled by 1/256, floating point of
    0 to 1 by 255, palette, grey and CMYK become RGB. Of an animation or a multi-page file the first frame counts.

    Args:
        source: The file, or its content.

    Returns:
        The picture, upright, of mode RGB.

    Raises:
        ImageError: The file is missing, no regular file, empty, truncated, too large, or no image.
    """
    with _opened(source) as image:
        image.load()
        return to_rgb(image)


@contextmanager
def _opened(source: Source) -> Iterator[ImageFile]:
    """Open an image of which the header alone is read, and give the reason of whatever goes wrong with it."""
    size = len(source) if isinstance(source, bytes) else _size(source)
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{image.width} x {image.height} pixels; the limit is {MAX_PIXELS:,}")
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image" if size else "empty file") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise ImageError("does not fit into memory") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot be decoded: {reason}") from error


def _size(path: str | Path) -> int:
    """Return the size of a regular file, bytes.

    Raises:
        ImageError: It is none. Nothing else is opened: a pipe would never end.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - one look in place of two
    except OSError as error:
        there = error.errno in (errno.EACCES, errno.ENAMETOOLONG)  # or may be
        raise ImageError(f"cannot be read: {error.strerror}" if there else "no such file") from error
    except ValueError as error:  # a NUL in its name
        raise ImageError("no such file") from error
    if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
        raise ImageError(f"cannot be read: {os.strerror(errno.EACCES)}")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    return status.st_size


def _plain_jpeg(image: ImageFile) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Return the pixels of a JPEG that is nothing but RGB and upright, uint8 (H, W, 3); None: Pillow is to decode it.

    Pillow decodes by the same library, but into pixels of four bytes that are copied twice. Whatever is damaged or
    odd, if ever so slightly, is left to Pillow too.
    """
    if image.format != "JPEG" or image.mode != "RGB" or image.getexif().get(_ORIENTATION, 1) != 1:
        return None
    assert image.fp is not None  # it is open
    image.fp.seek(0)
    content = image.fp.read(_MOST_BYTES)
    if len(content) == _MOST_BYTES:
        return None
    try:
        pixels = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:
        return None
    return np.asarray(pixels) if pixels.shape == (image.height, image.width, 3) else None


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded Pillow image upright and as RGB; see `open_image` for the rules."""
    if image.getexif().get(_ORIENTATION, 1) != 1:  # asked first, since the transposition copies what is upright too
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64) >> 8  # a 16-bit PNG opens as mode I in older Pillow releases
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
