"""A table that the cache keeps between commands, which several processes may read and write."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any


class KeptTable:
    """Rows by key in an SQLite file. If the file is damaged or cannot be written, only time is lost.

    Args:
        file: The file; it is made when rows are added.
        columns: The names of the columns behind the key; another list of names begins a new table.
    """

    def __init__(self, file: Path, columns: tuple[str, ...]) -> None:
        self.file, self.columns = file, columns
        self.name = "_".join(columns)

    def read(self, keys: Collection[str]) -> dict[str, tuple[Any, ...]]:
        """Return the kept rows of some keys, without the key."""
        try:
            with closing(sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro", uri=True)) as opened:
                rows = opened.execute(f"SELECT * FROM {self.name}")
                return {key: tuple(values) for key, *values in rows if key in keys}
        except sqlite3.Error:
            return {}

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Keep rows, the key first; a file that is damaged is begun anew."""
        several = list(rows)
        try:
            self._add(several)
        except sqlite3.OperationalError:  # locked, read-only or full
            return
        except sqlite3.DatabaseError:
            with suppress(sqlite3.Error, OSError):
                self.file.unlink(missing_ok=True)
                self._add(several)
        except OSError:
            return

    def _add(self, rows: list[tuple[Any, ...]]) -> None:
        names, marks = ", ".join(self.columns), ", ".join("?" * (1 + len(self.columns)))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.file, timeout=10)) as opened, opened:
            opened.execute(f"CREATE TABLE IF NOT EXISTS {self.name} (key TEXT PRIMARY KEY, {names})")
            opened.executemany(f"INSERT OR REPLACE INTO {self.name} VALUES ({marks})", rows)
