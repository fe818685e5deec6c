"""What an image file may not exceed, and the error that says why one cannot be read."""

from __future__ import annotations

from bloodcell.runtime.errors import BloodcellError

#: Largest image that is decoded: 100 megapixels, some 300 MB as RGB. The header is checked before decoding.
MAX_PIXELS = 100_000_000

#: Bytes that decoding an image may take, with all copies: those of 100 megapixels of 8 bits.
MAX_BYTES = 1_000_000_000

#: Longest side of an image that is decoded, pixels. Resizing an image with few columns and millions of rows takes many
#: times the memory of its pixels.
MAX_SIDE = 100_000


class ImageError(BloodcellError):
    """An image file that cannot be read; the message gives the reason, without the path."""


def require_size(width: int, height: int, max_pixels: int, bytes_each: int = 0) -> None:
    """Raise an ImageError if an image of `width` x `height` pixels is larger than allowed.

    `bytes_each` is the memory that decoding takes for a pixel of this kind, if it is more than usual.
    """
    most = min(max_pixels, MAX_BYTES // bytes_each) if bytes_each else max_pixels
    if width * height > most:
        kind = "" if most == max_pixels else " for this kind of file"
        raise ImageError(f"{width} x {height} pixels; the limit{kind} is {most:,}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width} x {height} pixels; the limit of a side is {MAX_SIDE:,}")
