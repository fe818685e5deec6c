"""Corrections: what humans have decided on cells, a CSV file with a line for each decision.

Lines are only ever added, so that several processes may write and a kill loses nothing that was kept. The last decision
of a person on a cell is the one that holds; an empty label takes back what the person decided before.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.correction_lines import BOX, COLUMNS, whole_lines
from bloodcell.runtime.console import named, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_cells, separator, with_known_columns, write_csv

#: Labels beside the classes.
NO_CELL, CANNOT_TELL = "no white cell", "cannot tell"
#: Left, top, width and height in pixels of the upright picture.
Box = tuple[float, float, float, float]


def now() -> str:
    """Return the time in UTC as ISO 8601 has it, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person has decided on a cell."""

    path: str  # of the picture, as in the table of predictions
    label: str  # a class, `NO_CELL` or `CANNOT_TELL`; '': what the person decided before is taken back
    who: str = ""
    when: str = field(default_factory=now)  # ISO 8601
    predicted: str = ""  # the class that the net had predicted
    cell: int | None = None  # its number in the picture, from 1; None: the picture shows one cell
    box: Box | None = None  # by which the cell is found again; its number changes with the finder

    @property
    def place(self) -> tuple[str, int | None, Box | None]:
        """The cell as it was shown to the person."""
        return self.path, self.cell, self.box


@dataclass(frozen=True)
class Corrections:
    """The decisions of a file."""

    file: Path
    decisions: tuple[Decision, ...]  # in their order; those that are taken back, too
    digest: str  # SHA-256 of what was read

    def by_path(self) -> dict[str, list[Decision]]:
        """Return the decisions on each picture."""
        found: dict[str, list[Decision]] = {}
        for one in self.decisions:
            found.setdefault(one.path, []).append(one)
        return found


def read_corrections(file: Path, classes: Sequence[str] | None = None) -> Corrections:
    """Read a corrections file; other programs may have written it, too.

    The columns path and label are needed, and the box (left, top, width, height) of a cell that has a number. A last
    line that is half written is left out, and a note says so.

    Args:
        file: The file.
        classes: Of the classifier; None: any label may stand there.

    Raises:
        BloodcellError: It cannot be read, a column is missing, or a row is wrong; the message names the row.
    """
    content = None
    with suppress(OSError):  # `read_cells` says what is wrong
        content = file.read_bytes() if file.is_file() else None
    whole = None if content is None else whole_lines(content)
    if content is not None and whole is not None and len(whole) < len(content):
        say(f"note: {file}: the last line is half written, and is left out")
    if clash := [name for name in (NO_CELL, CANNOT_TELL) if name in (classes or ())]:
        raise BloodcellError(f"the classifier has the class '{clash[0]}', which a corrections file takes for no class")
    digest = hashlib.sha256(whole or b"").hexdigest()
    return Corrections(file, () if whole == b"" else _decisions(file, whole, classes), digest)


@contextmanager
def as_file(corrections: Any) -> Iterator[Any]:
    """Yield a corrections file, or a file of a table for as long as the context lasts; None stays None."""
    if not isinstance(corrections, pd.DataFrame):
        yield corrections
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "corrections.csv"
        write_csv(corrections, file)
        yield file


def _decisions(file: Path, content: bytes | None, classes: Sequence[str] | None) -> tuple[Decision, ...]:
    rows = read_cells(file, "corrections", content)
    _refuse_short_rows(file, content or b"")
    rows = with_known_columns(rows, COLUMNS, file)
    if missing := [name for name in ("path", "label") if name not in rows]:
        raise BloodcellError(f"{file} has no column '{missing[0]}'; it has {named(rows.columns)}")
    if (some := [name for name in BOX if name in rows]) and len(some) < len(BOX):
        raise BloodcellError(f"{file} has {named(some)}, but not all of {named(BOX)}; a box takes all four")
    known = {*classes, NO_CELL, CANNOT_TELL, ""} if classes is not None else None
    rows, found = rows[[name for name in COLUMNS if name in rows]], []
    for number, row in zip(rows.index, rows.to_dict("records"), strict=True):
        try:
            found.append(decision_of({str(name): str(value).strip() for name, value in row.items()}, known))
        except ValueError as error:
            raise BloodcellError(f"{file}, row {number}: {error}") from error
    return tuple(found)


def _refuse_short_rows(file: Path, content: bytes) -> None:
    """Raise a BloodcellError if a row has too few cells: its label might be taken for an empty one, and so for undo."""
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator(file))
    width = 0
    try:
        for number, cells in enumerate(rows, start=1):
            width = width or len(cells)
            if any(cells) and len(cells) < width:
                raise BloodcellError(f"{file}, row {number}: {len(cells)} cells, and the header has {width}")
    except csv.Error as error:
        raise BloodcellError(f"corrections={file} is no CSV file: {error}") from error


def decision_of(row: dict[str, str], known: set[str] | None) -> Decision:
    """Return the decision of a row, whose label is one of the known ones.

    Raises:
        ValueError: With what is wrong with the row.
    """
    path, label, when = (row.get(name, "") for name in ("path", "label", "when"))
    if not path:
        raise ValueError("no path")
    if known is not None and label not in known:
        raise ValueError(f"label {label!r} is no class; there are {named(sorted(known - {''}))}")
    if when and not is_utc(when):
        raise ValueError(f"when is {when!r}; give a time in UTC, e.g. 2026-01-31T09:30:00Z")
    box = _box([row.get(name, "") for name in BOX])
    cell = _number(row.get("cell", ""))
    if cell is not None and box is None:
        raise ValueError(f"cell {cell} has no box; a cell is found by {named(BOX)}, as its number may change")
    return Decision(
        path=path,
        label=label,
        who=row.get("who", ""),
        when=when,
        predicted=row.get("predicted", ""),
        cell=cell,
        box=box,
    )


def is_utc(text: str) -> bool:
    """Return whether a text is a time in UTC as ISO 8601 has it."""
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _number(text: str) -> int | None:
    """Return the number of a cell; other programs may write 3.0."""
    if not text:
        return None
    number = _float(text)
    if not (number >= 1 and number.is_integer()):
        raise ValueError(f"cell is {text!r}; give its number in the picture, from 1")
    return int(number)


def _box(texts: list[str]) -> Box | None:
    if not any(texts):
        return None
    left, top, width, height = map(_float, texts)
    if not (math.isfinite(left + top + width + height) and width > 0 and height > 0):
        raise ValueError(f"its box is {named(texts)}; give {named(BOX)} in pixels, the last two above 0")
    return left, top, width, height


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
