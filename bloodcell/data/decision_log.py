"""Decisions added to a corrections file, by several processes at once, and on the disk before they are acknowledged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bloodcell.data.correction_lines import COLUMNS, cells_of, header_of, line_of, whole_lines
from bloodcell.data.corrections import Decision
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.locks import locked


def append_decisions(file: Path, decisions: Sequence[Decision]) -> None:
    """Add decisions to a file, or begin it; when this returns, the disk has them.

    Several processes may do so at once. A decision that is the last of its person on its cell already, at the same
    time, is not written again: so a caller who was not told that it is kept may repeat it.

    Raises:
        BloodcellError: The file is none of this format or cannot be written, and is as it was; or a decision has a
            line break.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name(f".{file.name}.lock")):
            _append(file, decisions)
    except OSError as error:
        raise BloodcellError(f"cannot write {file}: {error.strerror}; the last decisions are not kept") from error


def _append(file: Path, decisions: Sequence[Decision]) -> None:
    begun = file.exists()
    if begun and not file.is_file():
        raise BloodcellError(f"cannot write {file}: it is no regular file; choose another file")
    content = file.read_bytes() if begun else b""
    whole = whole_lines(content)
    if whole and (columns := cells_of(header_of(whole), ",")) != list(COLUMNS):
        raise BloodcellError(f"{file} has the columns {named(columns)}, not {named(COLUMNS)}; choose another file")
    further = b"" if whole else line_of(COLUMNS)
    further += b"\n" if whole and not whole.endswith(b"\n") else b""
    for one in decisions:
        line = line_of(_row(one))
        further += b"" if _is_last(line, whole) else line
    with file.open("r+b" if begun else "xb") as opened:
        try:
            opened.truncate(len(whole))
            opened.seek(len(whole))
            opened.write(further)
            opened.flush()
            os.fsync(opened.fileno())
        except OSError:
            opened.truncate(len(whole))
            raise
    if not begun:
        _keep_name(file)


def _keep_name(file: Path) -> None:
    """Wait until the disk has the name of a new file; there are systems that do not know this."""
    with suppress(OSError):
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _row(one: Decision) -> tuple[str, ...]:
    box = ["", "", "", ""] if one.box is None else [f"{value:.10g}" for value in one.box]
    cell = "" if one.cell is None else str(one.cell)
    row = (one.path, cell, one.label, one.who, one.when, one.predicted, *box)
    if any(mark in text for text in row for mark in "\r\n"):
        raise BloodcellError(f"a decision on {one.path!r} has a line break; no name in a corrections file may have one")
    return row


def _is_last(line: bytes, content: bytes) -> bool:
    """Return whether the last line of the same person on the same cell is this one."""
    if content.find(b"\n" + line) < 0:
        return False
    own, path = cells_of(line, ","), line[: line.index(b'","') + 1]
    same = (cells for one in content.splitlines() if one.startswith(path) and (cells := cells_of(one, ",")))
    last = [cells for cells in same if _who_and_where(cells) == _who_and_where(own)]
    return bool(last) and last[-1] == own


def _who_and_where(cells: list[str]) -> tuple[str, ...]:
    return cells[0], cells[1], cells[3], *cells[6:]
