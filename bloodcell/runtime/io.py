"""Files: written atomically, so that a reader or a killed run sees the old file or the new one, never a part."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.runtime.errors import BloodcellError, folded

#: Significant digits of numbers in tables for people.
DIGITS = 6


def write_atomically(file: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `file`, then put it in its place.

    Nobody can guess its name, and plant a link of that name in a shared folder.
    """
    temporary = file.with_name(f".{file.name}.{secrets.randbits(40)}")
    try:
        temporary.touch(exist_ok=False)
        write(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of killed processes from a folder, of files named like the pattern `name`."""
    for left in folder.glob(f".{name}.*"):
        if left.suffix[1:].isdecimal():
            left.unlink(missing_ok=True)


def write_csv(table: pd.DataFrame, file: Path, exact: bool = False) -> None:
    """Write a table as CSV, with Unix line ends on every system.

    Numbers have `DIGITS` significant digits, and counts all of theirs; with `exact`, all numbers are read back as they
    are.
    """
    text = table.select_dtypes(exclude="number").astype(str)
    # before Python 3.13 a carriage return alone gets no quotes, and ends the row where the file is read
    odd = any("\r" in column or text[column].str.contains("\r", regex=False).any() for column in text)
    style: dict[str, Any] = {
        "index": False,
        "lineterminator": "\n",
        "quoting": csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL,
    }
    if not exact:
        table, style["float_format"] = _with_whole_numbers(table), f"%.{DIGITS}g"
    write_atomically(file, lambda temporary: table.to_csv(temporary, **style))


def _with_whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with integers in columns of counts, which are floats if one is missing."""
    floats = table.select_dtypes("float")
    whole = ((floats % 1 == 0) | floats.isna()).all() & (floats.abs().max() < 2**53)
    return table.astype(dict.fromkeys(whole.index[whole], "Int64"))


def write_text(text: str, file: Path) -> None:
    """Write a text as UTF-8."""
    write_atomically(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(file: Path) -> Any:
    """Return the plain values of a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or nested without end.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{file} is nested too deeply") from error


def write_json(values: Any, file: Path) -> None:
    """Write plain values as JSON."""
    write_text(json.dumps(values, indent=2) + "\n", file)


def read_cells(file: Path, key: str, content: bytes | None = None) -> pd.DataFrame:
    """Read a user's UTF-8 CSV file with a header, every cell as text, without empty rows.

    If the first line has no comma, semicolons or tabulators separate the cells.

    Args:
        file: The file.
        key: Its configuration key, for messages.
        content: What it holds, if that was read already.

    Returns:
        The cells, indexed by row number; the header is row 1.

    Raises:
        BloodcellError: It is missing, no regular file, no CSV file or empty, a row is longer than the header, or two
            columns have one name.
    """
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # a pipe or a device might never end
            raise BloodcellError(f"cannot read {key}={file}: it is no regular file")
        source = file if content is None else io.BytesIO(content)
        cells = pd.read_csv(
            source, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig",
            compression=None, sep=separator(file),
        )  # fmt: skip
    except OSError as error:
        raise BloodcellError(f"cannot read {key}={file}: {error.strerror}") from error
    except ValueError as error:
        empty = isinstance(error, pd.errors.EmptyDataError)
        reason = "it is empty" if empty else " ".join(str(error).split())
        raise BloodcellError(f"{key}={file} is no CSV file: {reason}") from error
    cells.index = pd.RangeIndex(1, len(cells) + 1)
    cells = cells[cells.apply(lambda column: column.str.strip() != "").any(axis=1)]
    if cells.empty:
        raise BloodcellError(f"{key}={file} is no CSV file: it is empty")
    rows = cells.iloc[1:].set_axis([str(name).strip() for name in cells.iloc[0]], axis=1)
    if rows.columns.has_duplicates:
        raise BloodcellError(f"{file} has the column {rows.columns[rows.columns.duplicated()][0]!r} twice; keep one")
    return rows


def separator(file: Path) -> str:
    """Return what separates the cells of a CSV file: a comma, else a semicolon or tabulator, as its first line has."""
    with file.open(encoding="utf-8-sig") as opened:
        header = opened.readline(1 << 16).strip()
    return next((mark for mark in ",;\t" if mark in header), ",")


def with_known_columns(rows: pd.DataFrame, known: Iterable[str], file: Path, free: str = "\n") -> pd.DataFrame:
    """Return the cells of `read_cells` with the known columns under their names: letter case and blanks do not count.

    Columns that begin with `free` may have any name.

    Raises:
        BloodcellError: Two columns are the same known one, or one that is not known looks like one that is missing.
    """
    names = {folded(name): name for name in known}
    meant = {column: names[folded(column)] for column in rows if folded(column) in names}
    for name in names.values():
        if len(same := [column for column in meant if meant[column] == name]) > 1:
            raise BloodcellError(f"{file} has the columns {' and '.join(map(repr, same))}; keep one of them")
    missing = [key for key, name in names.items() if name not in meant.values()]
    for column in rows.columns.difference(list(meant)):
        if not column.startswith(free) and (
            alike := difflib.get_close_matches(folded(column), missing, n=1, cutoff=0.8)
        ):
            raise BloodcellError(
                f"{file} has the column {column!r}, and no {names[alike[0]]!r}; write it so, or remove the column or "
                "name it otherwise if it is not that"
            )
    return rows.rename(columns=meant)


def file_digest(file: Path) -> str:
    """Return a file's SHA-256, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
