"""A CSV file written in steps; after its process was killed, the next one completes it to the same bytes."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json, remove_temporaries, write_json
from bloodcell.runtime.locks import locked

Rows = Iterable[Iterable[Any]]

#: Columns of FILE.bad.csv.
BAD = ["path", "reason"]


@dataclass
class Begun:
    """An item whose rows are written in several steps."""

    sizes: list[int]  # bytes of both files before its first step
    counts: Counter[str]  # sums before it
    steps: int = 0  # number of steps that are done
    of: int = 0  # number of all its steps
    rows: int = 0  # number of its rows so far
    kept: list[list[int]] = field(default_factory=list)  # what the next steps must know, four numbers each


@dataclass
class Progress:
    """The content of FILE.state.json, after the last complete step."""

    settings: dict[str, Any]  # all that the rows depend on besides the items
    items: int = 0  # number of items that are done, bad ones included
    seen: str = ""  # digest of their names
    sizes: list[int] = field(default_factory=lambda: [0, 0])  # bytes of FILE.csv and FILE.bad.csv
    counts: Counter[str] = field(default_factory=Counter)  # sums over all steps
    begun: Begun | None = None  # the item that is not done yet; None: there is none


class ResumableCsv:
    """FILE.csv and FILE.bad.csv, with FILE.state.json until both are complete.

    The state holds the size of both files after each step; what a killed process wrote later is cut off. The state is
    written after the rows are on the disk, so a power cut leaves no state that is ahead of them.

    With `overwrite`, complete files are replaced, and files that were begun with other settings or items begin again.
    """

    def __init__(self, file: Path, overwrite: bool = False) -> None:
        endings = ".csv", ".bad.csv", ".state.json", ".lock"
        self.file, self.bad, self.state, self.lock = self.own = [file.with_suffix(ending) for ending in endings]
        self.overwrite, self.progress = overwrite, Progress({})

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the files; if the context ends without an error, they are complete.

        Raises:
            BloodcellError: Another process writes them, they are complete with a row, one is a link, or their folder
                cannot be made.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise BloodcellError(f"no folder {self.file.parent} can be made; choose another output") from error
        if links := [path for path in self.own if path.is_symlink()]:  # what it points to may be anything
            raise BloodcellError(f"{links[0]} is a link; remove it, or choose another output")
        busy = f"another process is writing {self.file}; wait for it, or stop it first"
        with locked(self.lock, busy, remove=True):
            there = [path for path in (self.file, self.bad) if path.exists()]
            if there and not (self.overwrite or self.state.is_file() or _has_no_row(self.file)):
                raise BloodcellError(f"{there[0]} is there already; choose another output, or overwrite=true")
            remove_temporaries(self.state.parent, glob.escape(self.state.name))
            yield
            self.state.unlink(missing_ok=True)

    def begun(self) -> dict[str, Any]:
        """Return the settings of an unfinished table; empty if there is none that can be read."""
        try:
            return _progress(read_json(self.state)).settings
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def start(self, columns: list[str], settings: dict[str, Any], names: Iterable[str]) -> int:
        """Begin both files, or go on with those of a killed process; return the number of items that are done.

        `columns` are those of FILE.csv, `settings`, plain values, all that the rows depend on besides the items, and
        `names` those of all items.

        Raises:
            BloodcellError: The files were begun with other settings or items, and overwrite is not set.
        """
        try:
            if self.state.is_file() and ((done := self._resume(columns, settings, names)) or self.progress.begun):
                return done
        except BloodcellError:
            if not self.overwrite:
                raise
        self.progress = Progress(settings)
        self._write_state()  # first, so that an unfinished file never looks complete
        self.bad.unlink(missing_ok=True)
        self.file.write_bytes(lines([columns]))
        return 0

    def _resume(self, columns: list[str], settings: dict[str, Any], names: Iterable[str]) -> int:
        """Cut off what was written after the last step, and return the number of items that are done."""
        try:
            then = _progress(read_json(self.state))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self._refusal(f"{self.state} is damaged") from error
        for key, value in settings.items():
            if (before := then.settings.get(key)) != value:
                raise self._refusal(f"{key} was {before!s:.60}, and is {value!s:.60} now")
        done, seen = 0, ""
        for name in islice(names, then.items):
            done, seen = done + 1, digest(seen, [name])
        if done < then.items or seen != then.seen:
            raise self._refusal("its images are not those that are there now")
        for path, size in zip((self.file, self.bad), then.sizes, strict=True):
            if _size(path) < size:
                raise self._refusal(f"{path.name} is shorter than it was")
            header = lines([columns if path == self.file else BAD])
            if size and not _is_as_written(path, header, size):
                raise self._refusal(f"{path.name} was changed, perhaps by a spreadsheet")
            if size:
                os.truncate(path, size)
            else:
                path.unlink(missing_ok=True)
        self.progress = then
        return then.items

    def add(self, names: list[str], rows: Rows, bad: Rows, counts: dict[str, int]) -> None:
        """Write a step: its items' names, rows of FILE.csv, rows (path, reason) of FILE.bad.csv, and counts to add."""
        now, bad = self.progress, list(bad)
        _append(self.file, lines(rows))
        if bad:
            _append(self.bad, lines([*([] if now.sizes[1] else [BAD]), *bad]))
        now.items, now.seen = now.items + len(names), digest(now.seen, names)
        now.sizes = [_size(self.file), _size(self.bad)]
        now.counts.update(counts)
        now.begun = None
        self._write_state()

    def add_step(self, of: int, rows: Rows, counts: dict[str, int], number: int, kept: list[list[int]]) -> None:
        """Write a step of the next item, which has `of` steps: `number` rows, and what the next steps must know.

        The last step is `add`.
        """
        now = self.progress
        begun = now.begun or Begun(
            list(now.sizes) if now.sizes[0] else [_size(self.file), 0], Counter(now.counts), of=of
        )
        _append(self.file, lines(rows))
        now.sizes = [_size(self.file), _size(self.bad)]
        now.counts.update(counts)
        now.begun = replace(begun, steps=begun.steps + 1, rows=begun.rows + number, kept=kept)
        self._write_state()

    def withdraw(self) -> None:
        """Take back the rows of the item that is not done yet."""
        now = self.progress
        if now.begun is None:
            return
        now.sizes, now.counts, now.begun = now.begun.sizes, now.begun.counts, None
        self._write_state()  # first: what is behind these sizes is cut off when the table goes on
        os.truncate(self.file, now.sizes[0])

    def since(self) -> list[list[str]]:
        """Return the rows of the item that is not done yet."""
        if self.progress.begun is None:
            return []
        with self.file.open("rb") as opened:
            opened.seek(self.progress.begun.sizes[0])
            text = opened.read(self.progress.sizes[0] - self.progress.begun.sizes[0]).decode("utf-8")
        return list(csv.reader(io.StringIO(text, newline="")))

    def _write_state(self) -> None:
        begun = self.progress.begun
        write_json(vars(self.progress) | {"begun": vars(begun) if begun else None}, self.state)

    def is_own(self, name: str) -> bool:
        """Return whether a name is one of this table's files."""
        known = Path(name).name in [one.name for one in self.own]
        return known and Path(name).parent.resolve() == self.file.parent.resolve()

    def _refusal(self, why: str) -> BloodcellError:
        return BloodcellError(f"{self.file} is unfinished and cannot be continued ({why}); overwrite=true begins again")


def _progress(read: Any) -> Progress:
    """Return what a state file holds; raise a ValueError or TypeError if it is none."""
    then = Progress(**read)
    counts = [then.items, *then.sizes, *then.counts.values()]
    if any(type(count) is not int or not 0 <= count < sys.maxsize for count in counts) or len(then.sizes) != 2:
        raise ValueError("a count is none")
    if not isinstance(then.settings, dict) or not isinstance(then.seen, str):
        raise TypeError("no settings")
    then.counts = Counter(then.counts)  # JSON knows plain dictionaries alone
    then.begun = _begun(then.begun, then.sizes) if then.begun is not None else None
    return then


def _begun(read: Any, sizes: list[int]) -> Begun:
    begun = Begun(**read)
    numbers = [begun.steps, begun.of, begun.rows, *begun.sizes, *begun.counts.values(), *chain(*begun.kept)]
    if any(type(number) is not int or abs(number) >= sys.maxsize for number in numbers):
        raise ValueError("a number is none")
    if len(begun.sizes) != 2 or not 0 <= begun.sizes[0] <= sizes[0] or {len(one) for one in begun.kept} - {4}:
        raise ValueError("sizes or places are none")
    return replace(begun, counts=Counter(begun.counts))


def digest(before: str, names: Iterable[str]) -> str:
    """Return the digest of a sequence of names that continues one with the digest `before`."""
    for name in names:
        before = hashlib.sha256(before.encode() + os.fsencode(name)).hexdigest()
    return before


def lines(rows: Rows) -> bytes:
    """Return rows as CSV with quoted text; bytes of a name that are not UTF-8 are escaped as Python shows them."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def _append(file: Path, content: bytes) -> None:
    """Add to a file, and wait until the disk has it: below 1 % of a step's time."""
    with file.open("ab") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _is_as_written(file: Path, header: bytes, size: int) -> bool:
    """Return whether a table has its header, and a row ends at a size, above 0: it was not written anew elsewhere."""
    with file.open("rb") as opened:
        first = opened.read(len(header))
        opened.seek(size - 1)
        return first == header and opened.read(1) == b"\n"


def _has_no_row(file: Path) -> bool:
    """Return whether a file is a header alone: no image could be read, and there is nothing to lose."""
    with file.open("rb") if file.is_file() else io.BytesIO(b"?") as opened:
        return opened.readline().startswith(b'"path",') and not opened.readline()


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
