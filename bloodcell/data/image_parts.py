"""What a file says of its parts before it is decoded: a small file of very many parts would take minutes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from mmap import mmap

from bloodcell.data.image_limits import ImageError

Content = bytes | mmap

#: Most scans of a JPEG, each of which passes over the whole image: encoders write at most some twenty.
MOST_SCANS = 50
#: Most segments before the first of them, PNG chunks that are no pixels, and blocks before a GIF's first frame.
MOST_SEGMENTS, MOST_CHUNKS, MOST_BLOCKS = 500, 5_000, 10_000
#: Most PNG chunks that are pixels, and strips or tiles of a TIFF file.
MOST_PIECES = 200_000
#: Most bytes, and pixels, of what is decoded in Python: BMP with run lengths, PNM as text, TIFF with PackBits.
MOST_SLOW = 2**24
#: The header of a PNM file ends within so many bytes, comments included.
_PNM_HEADER = 2**16
_ALONE = frozenset((0xFF, 0x01, *range(0xD0, 0xD9)))  # JPEG markers without a length
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # that ends the data of a scan


def require_few_parts(content: Content) -> None:
    """Raise an ImageError if decoding a file would take long for its number of parts alone."""
    check = _CHECKS.get(content[:2])
    try:
        if check:
            check(content)
    except (IndexError, struct.error):
        return  # it ends too early, as the decoder will say


def require_at_most(count: int, most: int, what: str) -> None:
    """Raise an ImageError if a file has too many parts of a kind."""
    if count > most:
        raise ImageError(f"more than {most:,} {what}; save it again with another program")


def _jpeg(content: Content) -> None:
    at, segments = 2, 0
    while (marker := content[at + 1]) != 0xDA:  # the first scan
        has_length = content[at] == 0xFF and marker not in _ALONE
        at += 2 + (content[at + 2] << 8) + content[at + 3] if has_length else 1
        segments += 1
        if segments > MOST_SEGMENTS:
            require_at_most(segments, MOST_SEGMENTS, "segments")
    if _occurrences(content, b"\xff\xda", at) > MOST_SCANS:  # or bytes behind the image that look like scans
        require_at_most(_scans(content, at), MOST_SCANS, "scans")


def _occurrences(content: Content, part: bytes, at: int) -> int:
    """Return how often a part is there from a place on, counted to just above `MOST_SCANS`."""
    count = 0
    while count <= MOST_SCANS and (at := content.find(part, at)) >= 0:
        at, count = at + 1, count + 1
    return count


def _scans(content: Content, at: int) -> int:
    """Return the number of scans before the end marker, counted to just above `MOST_SCANS`."""
    scans = 0
    while scans <= MOST_SCANS and content[at + 1] != 0xD9:
        scans += content[at + 1] == 0xDA
        found = _MARKER.search(content, at + 2 + struct.unpack_from(">H", content, at + 2)[0])
        if found is None:
            break
        at = found.start()
    return scans


def _png(content: Content) -> None:
    at, chunks, pieces = 8, 0, 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        chunks, pieces = (chunks, pieces + 1) if kind == b"IDAT" else (chunks + 1, pieces)
        require_at_most(chunks, MOST_CHUNKS, "chunks")
        require_at_most(pieces, MOST_PIECES, "chunks of pixels")
        at += 12 + length


def _gif(content: Content) -> None:
    at, blocks = 13 + (3 * 2 ** ((content[10] & 7) + 1) if content[10] & 0x80 else 0), 0
    while content[at] not in b",;":  # the first frame, the end
        if content[at] == ord("!"):
            at += 2
            while length := content[at]:
                at += 1 + length
                blocks += 1
                require_at_most(blocks, MOST_BLOCKS, "blocks")
        at += 1
        blocks += 1
        require_at_most(blocks, MOST_BLOCKS, "blocks")


def _bmp(content: Content) -> None:
    size, width, height, _, _, compression = struct.unpack_from("<IiiHHI", content, 14)
    if size >= 40 and compression in (1, 2):
        require_at_most(max(len(content), abs(width * height)), MOST_SLOW, "bytes or pixels in run lengths")


def _pnm(content: Content) -> None:
    header = re.sub(rb"#[^\r\n]*", b"", content[:_PNM_HEADER]).split(None, 3)
    if len(header) < 4 and len(content) > _PNM_HEADER:
        raise ImageError(f"a header of more than {_PNM_HEADER:,} bytes; save it again with another program")
    if content[1:2] in (b"1", b"2", b"3"):
        require_at_most(len(content), MOST_SLOW, "bytes of text")


#: A file's first two bytes -> the check of its format.
_CHECKS: dict[bytes, Callable[[Content], None]] = {
    b"\xff\xd8": _jpeg, b"\x89P": _png, b"GI": _gif, b"BM": _bmp, **{b"P%d" % kind: _pnm for kind in range(1, 7)},
}  # fmt: skip
