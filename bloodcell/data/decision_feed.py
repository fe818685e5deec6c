"""The decisions of a corrections file that grows: only what was added is read again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bloodcell.data.correction_lines import COLUMNS, cells_of, header_of, whole_lines
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL, Decision, decision_of, read_corrections
from bloodcell.data.decision_log import append_decisions
from bloodcell.runtime.errors import BloodcellError


class DecisionFeed:
    """Follows a file to which several programs may add.

    Args:
        file: The file; it may not be there yet.
        classes: Of the classifier.

    Attributes:
        decisions: All that were read.
        readings: How often the whole file was read; otherwise decisions are only added.
    """

    def __init__(self, file: Path, classes: Sequence[str]) -> None:
        self.file, self.classes = file, list(classes)
        self.decisions: list[Decision] = []
        self._header: list[str] = []
        self._read, self._inode, self.readings = 0, 0, 0
        self.refresh()

    def refresh(self) -> set[str]:
        """Read what was added, or the whole file if it is another one now; return the paths with new decisions.

        Raises:
            BloodcellError: The file is wrong.
        """
        state = None
        with suppress(FileNotFoundError):
            state = self.file.stat()
        if state is None or state.st_ino != self._inode or state.st_size < self._read:
            return self._read_all(state)
        if state.st_size == self._read:
            return set()
        with self.file.open("rb") as opened:
            opened.seek(self._read)
            added = opened.read()
        added = added[: added.rfind(b"\n") + 1]
        try:
            further = [self._decision(line) for line in added.splitlines()]
        except ValueError:
            return self._read_all(state)  # another program's lines, or a wrong one, which is named by its number
        self._read += len(added)
        self.decisions += further
        return {one.path for one in further}

    def _decision(self, line: bytes) -> Decision:
        cells = cells_of(line, ",")
        if self._header != list(COLUMNS) or len(cells) != len(COLUMNS):
            raise ValueError("not of the form that this program writes")
        row = dict(zip(COLUMNS, map(str.strip, cells), strict=True))
        return decision_of(row, {*self.classes, NO_CELL, CANNOT_TELL, ""})

    def _read_all(self, state: os.stat_result | None) -> set[str]:
        before = {one.path for one in self.decisions}
        self.decisions, self._read, self._inode = [], 0, 0
        self.readings += 1
        if state is not None and state.st_size:
            content = self.file.read_bytes()
            self.decisions = list(read_corrections(self.file, self.classes).decisions)
            whole = whole_lines(content)
            self._header, self._inode = cells_of(header_of(whole), ","), state.st_ino
            self._read = len(whole) if whole.endswith(b"\n") else state.st_size
        return before | {one.path for one in self.decisions}

    def add(self, decisions: Sequence[Decision]) -> set[str]:
        """Add decisions to the file; return the paths with new ones, of other programs, too.

        Raises:
            BloodcellError: They cannot be kept.
        """
        append_decisions(self.file, decisions)
        return self.refresh()


def require_writable(file: Path) -> None:
    """Check that decisions can be added to a file.

    Raises:
        BloodcellError: It is none of this format, or may not be written.
    """
    if file.exists():
        append_decisions(file, [])
        return
    folder = next(one for one in file.absolute().parents if one.exists())
    if not os.access(folder, os.W_OK):
        raise BloodcellError(
            f"corrections={file}: {folder} may not be written; name another file with corrections=FILE"
        )
