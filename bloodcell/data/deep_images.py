"""Image files with more than 8 bits a value, or with their colours in planes or pages, which Pillow cannot read."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.image_limits import require_size
from bloodcell.data.image_pages import GREY, colour_pages
from bloodcell.data.image_parts import MOST_PIECES, MOST_SLOW, require_at_most
from bloodcell.data.value_range import WHITES

# it prints what it also raises or returns; set once, as a change around each image is not safe in threads
set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4 and 5
set_log_level(0)  # silent

Values = NDArray[Any]

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RGB, _CMYK = {2}, {5}  # TIFF's PhotometricInterpretation, beside `GREY`
MOST_CHANNELS = 5
_ALPHA = (1, 2)  # TIFF's ExtraSamples: associated and unassociated alpha
_DECLARED = (281, 341)  # TIFF's MaxSampleValue and SMaxSampleValue
_PACKBITS = 32773  # TIFF's Compression; tifffile decodes it in Python
#: First bytes of a file that hold the header of a PNG or PNM file.
START = 1000
_PNM = re.compile(rb"P[2356](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d{1,5})\s")


@dataclass(frozen=True)
class DeepImage:
    """Pixel values as a file has them.

    Attributes:
        values: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, or (H, W, 4) RGB and alpha or CMYK.
        white: The value of white if the file declares it.
        white_is_zero: The values are those of a negative.
        cmyk: Whether four channels are CMYK.
        orientation: As in EXIF; 1: upright.
        premultiplied: Whether the colours were multiplied by alpha.
    """

    values: Values
    white: float | None = None
    white_is_zero: bool = False
    cmyk: bool = False
    orientation: int = 1
    premultiplied: bool = False


def is_tiff(start: bytes) -> bool:
    """Return whether a file's first bytes are those of a TIFF file."""
    return start[:4] in TIFF_STARTS


def read_deep_tiff(file: str | Path | bytes, max_pixels: int) -> DeepImage | None:
    """Return the values of a TIFF file; None if Pillow reads it as well: 8 bits or less, and colours side by side.

    Of a file of several pictures the first is read; see `bloodcell.data.image_pages`.

    Args:
        file: The file, or its content.
        max_pixels: The largest image that is decoded.

    Raises:
        ValueError: It is damaged, too large, or of a kind that is not read.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(file) if isinstance(file, bytes) else file, _multifile=False) as opened:
        page: Any = opened.pages[0]
        require_at_most(len(page.dataoffsets), MOST_PIECES, "strips or tiles")
        pages = colour_pages(opened)
        in_pages = len(pages) == 3
        if not in_pages and page.bitspersample <= 8 and page.sampleformat == 1 and not _is_premultiplied(page):
            return None
        channels, item = 3 if in_pages else page.samplesperpixel, max(2, -(-page.bitspersample // 8))
        if page.samplesperpixel > MOST_CHANNELS:
            raise ValueError(f"{page.samplesperpixel} channels; save an RGB image")
        require_size(page.imagewidth, page.imagelength, max_pixels, deep_bytes(item, channels))
        if page.compression == _PACKBITS:
            require_at_most(sum(page.databytecounts), MOST_SLOW, "bytes of PackBits")
        values = [_values(one, opened.filehandle, file) for one in pages]
        return _described(page, np.stack(values, axis=-1) if in_pages else values[0])


def _is_premultiplied(page: Any) -> bool:
    """Return whether the colours were multiplied by alpha; Pillow divides by it, and cannot undo an alpha of 0."""
    return bool(page.samplesperpixel in (2, 4) and page.extrasamples[:1] == (1,))


def _values(page: Any, handle: Any, file: str | Path | bytes) -> Values:
    """Return a page's values as (H, W) or (H, W, channels)."""
    if any(start + count > handle.size for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise ValueError("the file is truncated")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"a TIFF page of the axes {page.axes}; save one plane as an image of its own")
    try:
        values = page.asarray()
    except Exception as error:
        if "imagecodecs" not in str(error):
            raise
        return _by_opencv_or_pillow(page, file)
    return np.moveaxis(values, 0, -1) if page.axes == "SYX" else values


def _by_opencv_or_pillow(page: Any, file: str | Path | bytes) -> Values:
    """Return the values of a page whose compression tifffile does not read."""
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    if page.bitspersample in (16, 32) and page.axes != "SYX":
        return by_opencv(content)
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
        if page.axes == "YX" and image.mode in ("I;16", "I;16B"):
            return np.asarray(image)
    how = page.compression.name
    raise ValueError(f"{page.bitspersample} bits with the compression {how}; save it without compression")


def by_opencv(content: bytes) -> Values:
    """Return the values of an image file, (H, W) or (H, W, channels) in the order R, G, B, A, of its own type."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("the file is damaged, or of a kind that is not read")
    if values.ndim == 3:  # in place: a copy would take as much memory again
        blue = values[..., 0].copy()
        values[..., 0], values[..., 2] = values[..., 2], blue
    return np.asarray(values)


def _described(page: Any, values: Values) -> DeepImage:
    if values.dtype.kind not in "iuf":
        raise ValueError(f"pixels of the type {values.dtype}")
    tag = page.tags.get(274)
    known: dict[str, Any] = {"white": _declared_white(page), "orientation": tag.value if tag else 1}
    if page.photometric in _CMYK and page.samplesperpixel == 4:
        return DeepImage(values, **known, cmyk=True)
    if page.photometric not in GREY | _RGB:
        raise ValueError(f"{page.bitspersample} bits of the colour space {page.photometric.name}; save it as RGB")
    channels = values.shape[2] if values.ndim == 3 else 1
    colours = 3 if page.photometric in _RGB or channels == 3 else 1
    has_alpha = channels == colours + 1 and page.extrasamples[:1] in [(kind,) for kind in _ALPHA]
    if colours > channels or (colours == 1 and channels > 2):
        raise ValueError(f"{channels} channels that are no colours; save an RGB image")
    values = values[..., : colours + has_alpha] if channels > 1 else values
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    known["premultiplied"] = _is_premultiplied(page)
    return DeepImage(values, **known, white_is_zero=page.photometric == 0)


def _declared_white(page: Any) -> float | None:
    """Return the white that a page declares by its bits, its tags or its OME description; None: it declares none."""
    if page.bitspersample not in (8, 16, 32, 64):
        return float(2**page.bitspersample - 1)
    found = re.search(r'SignificantBits="(\d{1,2})"', page.description or "")
    if found and 0 < int(found[1]) <= page.bitspersample:
        return float(2 ** int(found[1]) - 1)
    values = [page.tags[tag].value for tag in _DECLARED if tag in page.tags]
    most = max(values[0]) if values and isinstance(values[0], tuple) else values[0] if values else 0
    return float(most) if most in WHITES[1:-1] else None


def declared_white(start: bytes) -> float | None:
    """Return the highest value of a PNG or PNM file with more than 8 bits, from its first `START` bytes; else None."""
    if start.startswith(b"\x89PNG"):
        return 65535.0 if start[24:25] == b"\x10" else None
    header = _PNM.match(start)
    return float(header[1]) if header and int(header[1]) > 255 else None


def read_deep(content: bytes, highest: float) -> DeepImage:
    """Return the values of a PNG or PNM file of `declared_white`, which Pillow has found undamaged."""
    return DeepImage(by_opencv(content), None if highest == 65535 else highest)


def deep_bytes(item: int, channels: int) -> int:
    """Return the memory that decoding takes for a pixel of some channels of `item` bytes: twice its own, and a copy."""
    return 2 * item * channels + 6
