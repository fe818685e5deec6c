"""A table that grows while it is computed, and goes on where a process was killed, with the very same bytes."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import remove_temporaries, write_json

Rows = Iterable[Iterable[Any]]


class GrowingTable:
    """FILE.csv and FILE.bad.csv, with what is needed to go on in FILE.state.json until both are complete.

    The state names the size of both files after each step, so that whatever a killed process wrote after the last one
    is cut off. It is written when the rows are on the disk, so that a power cut leaves no state that is ahead of them.

    Args:
        file: FILE.csv.

    Attributes:
        items: How many items are done, bad ones included.
        counts: What was counted so far.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.bad, self.state, self.lock = (
            file.with_suffix(ending) for ending in (".csv", ".bad.csv", ".state.json", ".lock")
        )
        self.items, self.seen = 0, hashlib.sha256()
        self.counts: dict[str, int] = {}
        self.settings: dict[str, Any] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the files for this process; they are complete where it comes to an end without an error.

        Raises:
            BloodcellError: Another process writes them, or there can be no such folder.
        """
        lock = FileLock(self.lock, timeout=0)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (FileExistsError, NotADirectoryError) as error:
            raise BloodcellError(f"no folder {self.file.parent} can be made; choose another output") from error
        except Timeout as error:
            raise BloodcellError(f"another process is writing {self.file}; wait for it, or stop it first") from error
        remove_temporaries(self.state.parent, glob.escape(self.state.name))
        try:
            yield
            self.state.unlink(missing_ok=True)
        finally:
            lock.release()
            self.lock.unlink(missing_ok=True)

    def refuse_complete(self, overwrite: bool) -> None:
        """Refuse files that are complete, unless they are to be overwritten.

        Raises:
            BloodcellError: One is there.
        """
        there = [path for path in (self.file, self.bad) if path.exists()]
        if there and not overwrite and not self.state.is_file():
            raise BloodcellError(f"{there[0]} is there already; choose another output, or overwrite=true")

    def start(
        self,
        columns: list[str],
        settings: dict[str, Any],
        counted: list[str],
        names: Callable[[], Iterator[str]],
        overwrite: bool,
    ) -> Iterator[str]:
        """Begin both files, or go on with them where a process was killed, and return the names that are left.

        Args:
            columns: Of FILE.csv.
            settings: All that the rows depend on besides the items; plain values.
            counted: What is counted on the way.
            names: Yields the names of all items.
            overwrite: Begin again where the files were begun otherwise.

        Raises:
            BloodcellError: They were, and are not to be overwritten.
        """
        self.settings = settings
        try:
            if self.state.is_file() and self._resume(left := names()):
                return left
        except BloodcellError:
            if not overwrite:
                raise
        self._begin(columns, counted)
        return names()

    def is_own(self, name: str) -> bool:
        """Say whether a name is that of one of the files that are written here."""
        own = [one.name for one in (self.file, self.bad, self.state, self.lock)]
        return Path(name).name in own and Path(name).parent.resolve() == self.file.parent.resolve()

    def _begin(self, columns: list[str], counted: list[str]) -> None:
        self.items, self.seen, self.counts = 0, hashlib.sha256(), dict.fromkeys(counted, 0)
        self._write_state([0, 0])  # first, so that what is unfinished never looks complete
        self.bad.unlink(missing_ok=True)
        self.file.write_bytes(b"")
        _append(self.file, lines([columns]))
        self._write_state([self.file.stat().st_size, 0])

    def _resume(self, names: Iterator[str]) -> bool:
        """Cut off what came after the last step, and say whether there was one; its names are taken."""
        state = self._read_state()
        for key, value in self.settings.items():
            if (then := state["settings"].get(key)) != value:
                raise self._refusal(f"{key} was {_short(then)}, and is {_short(value)} now")
        for _ in range(state["items"]):
            self._note(next(names, ""))
        if self.seen.hexdigest() != state["seen"]:
            raise self._refusal("its images are not those that are there now")
        sizes = dict(zip((self.file, self.bad), state["sizes"], strict=True))
        if short := [path for path, size in sizes.items() if _size(path) < size]:
            raise self._refusal(f"{short[0].name} is shorter than it was")
        for path, size in sizes.items():
            if size:
                os.truncate(path, size)
            else:
                path.unlink(missing_ok=True)
        self.items, self.counts = state["items"], state["counts"]
        return bool(state["sizes"][0])

    def add(self, names: Iterable[str], rows: Rows, bad: Rows, counts: dict[str, int]) -> None:
        """Write one step.

        Args:
            names: Of its items, in their order.
            rows: For FILE.csv.
            bad: For FILE.bad.csv, path and reason each; begun with the first.
            counts: To be added to `counts`.
        """
        bad = list(bad)
        _append(self.file, lines(rows))
        if bad:
            _append(self.bad, lines([*([] if _size(self.bad) else [["path", "reason"]]), *bad]))
        for name in names:
            self._note(name)
            self.items += 1
        self.counts = {key: value + counts[key] for key, value in self.counts.items()}
        self._write_state([_size(path) for path in (self.file, self.bad)])

    def _note(self, name: str) -> None:
        self.seen.update(os.fsencode(name) + b"\0")

    def _write_state(self, sizes: list[int]) -> None:
        seen = self.seen.hexdigest()
        state = {"settings": self.settings, "items": self.items, "seen": seen, "sizes": sizes, "counts": self.counts}
        write_json(state, self.state)

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
            whole = {"settings", "items", "seen", "sizes", "counts"} <= set(state)
        except (OSError, ValueError, TypeError):
            whole = False
        if not whole:
            raise self._refusal(f"{self.state} is damaged")
        return dict(state)

    def _refusal(self, why: str) -> BloodcellError:
        return BloodcellError(f"{self.file} is unfinished and cannot be continued ({why}); overwrite=true begins again")


def lines(rows: Rows) -> bytes:
    """Return rows as CSV; text is in quotes, whatever line breaks are in it.

    Bytes of a name that are no UTF-8 are written as Python shows them: else one such name would make the whole file
    unreadable.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def _append(file: Path, content: bytes) -> None:
    """Add to a file, and wait until the disk has it: less than a millisecond of a step of a tenth of a second."""
    with file.open("ab") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
