"""The lines of a corrections file: written so that one which a killed process has half written is seen."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

BOX = ("left", "top", "width", "height")
COLUMNS = ("path", "cell", "label", "who", "when", "predicted", *BOX)


def line_of(row: Sequence[str]) -> bytes:
    """Return a line with each cell in quotes, so that one which is half written has an open quote or too few cells."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(row)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def whole_lines(content: bytes) -> bytes:
    """Return what a corrections file holds, without a last line that a killed process has half written.

    A line that lacks nothing but the line break is whole: other programs end a file so.
    """
    before, end, last = content.rpartition(b"\n")
    if not last:
        return content
    if not before:
        return b"" if line_of(COLUMNS)[:-2].startswith(last) else content
    header = header_of(content)
    mark = next((mark for mark in ",;\t" if mark.encode() in header), ",")
    half = last.startswith(b'"') and last.endswith(b'",')  # of a line in quotes, before the last cell
    return content if not half and len(cells_of(last, mark)) >= len(cells_of(header, mark)) else before + end


def header_of(content: bytes) -> bytes:
    """Return the first line without its end."""
    return content.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")


def cells_of(line: bytes, mark: str) -> list[str]:
    """Return the cells of a line; none if a quote is open."""
    try:
        return next(
            csv.reader([line.decode("utf-8", errors="replace").rstrip("\r\n")], delimiter=mark, strict=True), []
        )
    except csv.Error:
        return []
