"""What an image file may not exceed, and the error that says why one cannot be read."""

from __future__ import annotations

from bloodcell.runtime.errors import BloodcellError

#: Largest image that is decoded: 100 megapixels, some 300 MB as RGB. The header is checked before decoding.
MAX_PIXELS = 100_000_000

#: Longest side of an image that is decoded, pixels. Resizing an image with few columns and millions of rows takes many
#: times the memory of its pixels.
MAX_SIDE = 100_000


class ImageError(BloodcellError):
    """An image file that cannot be read; the message gives the reason, without the path."""


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Raise an ImageError if an image of `width` x `height` pixels is larger than allowed."""
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels; the limit is {max_pixels:,}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width} x {height} pixels; the limit of a side is {MAX_SIDE:,}")
