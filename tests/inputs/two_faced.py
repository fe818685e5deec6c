"""An archive in which two readers see different parts: torch's the one, Python's zipfile the other."""

import struct

_END = b"PK\5\6"


def two_faced(by_torch, by_zipfile):
    """Return an archive that holds what one archive does for torch, and what another does for Python.

    torch takes the directory from the offset that the end record gives; Python takes the one just before that record,
    and moves all offsets by the difference. The second archive is the smaller one.
    """
    size, offset = _directory(by_torch)
    other_size, other_offset = _directory(by_zipfile)
    front, parts = by_torch[: offset + size], by_zipfile[:other_offset]
    moved = len(front) + len(parts) - offset  # by what Python moves all offsets
    directory, at = bytearray(by_zipfile[other_offset : other_offset + other_size]), 0
    while at < len(directory):
        last, lengths = at, struct.unpack("<HHH", directory[at + 28 : at + 34])
        (old,) = struct.unpack("<I", directory[at + 42 : at + 46])
        directory[at + 42 : at + 46] = struct.pack("<I", old + len(front) - moved)
        at += 46 + sum(lengths)
    directory[last + 32 : last + 34] = struct.pack("<H", size - other_size)  # a comment, so that sizes agree
    end = by_torch.rindex(_END)
    return front + parts + directory + bytes(size - other_size) + by_torch[end : end + 22]


def _directory(archive):
    end = archive.rindex(_END)
    return struct.unpack("<II", archive[end + 12 : end + 20])
