"""The judged cells of a folder, kept in a file of the cache: what was judged once is not judged again.

A picture counts as judged while its size and its time of change are the same. Its cells are written in one step, so
that a killed process leaves whole pictures.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]
#: The columns of a cell besides its features and its picture.
PLACE = ("number", "left", "top", "width", "height", "border", "unlike")
_TABLES = """
CREATE TABLE IF NOT EXISTS pictures (path TEXT PRIMARY KEY, stamp TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS cells (id INTEGER PRIMARY KEY, path TEXT, number INTEGER, "left" REAL, top REAL, width REAL,
    height REAL, border INTEGER, unlike INTEGER, probabilities BLOB, features BLOB);
CREATE TABLE IF NOT EXISTS views (id INTEGER PRIMARY KEY, jpeg BLOB);
CREATE TABLE IF NOT EXISTS examples (id INTEGER PRIMARY KEY, path TEXT, label TEXT, features BLOB, jpeg BLOB);
CREATE INDEX IF NOT EXISTS cells_by_path ON cells (path);
"""


@dataclass(frozen=True)
class JudgedCell:
    """A cell with the reader's answer."""

    path: str  # of its picture, as tables have it
    place: tuple[Any, ...]  # `PLACE`; None where it is unknown
    probabilities: Array  # (C,)
    features: Array  # (F,)
    jpeg: bytes  # what the reader saw


class CellStore:
    """A file of judged cells; several threads may use one, and several processes the same file.

    Args:
        file: In an existing folder.

    Raises:
        BloodcellError: The file is none of this kind.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._turn = file, RLock()
        try:
            self._base = sqlite3.connect(file, timeout=60, check_same_thread=False, isolation_level=None)
            self._base.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES}")
        except sqlite3.Error as error:
            raise BloodcellError(
                f"{file} cannot be read ({error}); remove it, and the cells are judged anew"
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._base.close()

    def stamps(self) -> dict[str, str]:
        """Return the stamp of each judged picture."""
        return dict(self._all("SELECT path, stamp FROM pictures"))

    def reasons(self) -> dict[str, str]:
        """Return why each picture that could not be read was not."""
        return dict(self._all("SELECT path, reason FROM pictures WHERE reason != ''"))

    def add(self, pictures: Sequence[tuple[str, str, str]], cells: Iterable[JudgedCell]) -> None:
        """Keep pictures (path, stamp, and why it cannot be read or '') with their cells, in place of what was kept."""
        with self._step() as base:
            for path, *_ in pictures:
                base.execute("DELETE FROM views WHERE id IN (SELECT id FROM cells WHERE path = ?)", (path,))
                base.execute("DELETE FROM cells WHERE path = ?", (path,))
            base.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)", pictures)
            for one in cells:
                values = (one.path, *one.place, _blob(one.probabilities, np.float32), _blob(_unit(one.features)))
                made = base.execute(f"INSERT INTO cells VALUES (NULL{', ?' * 10})", values)
                base.execute("INSERT INTO views VALUES (?, ?)", (made.lastrowid, one.jpeg))

    def rows(self) -> list[tuple[Any, ...]]:
        """Return id, path, `PLACE` and probabilities of all cells, by path and number."""
        names = ", ".join(f'"{name}"' for name in PLACE)
        return self._all(f"SELECT id, path, {names}, probabilities FROM cells ORDER BY path, number")

    def features(self, ids: Sequence[int]) -> Array:
        """Return the features of cells, of unit length, float16 (N, F)."""
        known = dict(self._all("SELECT id, features FROM cells"))
        if not ids:
            return np.empty((0, 0), np.float16)
        return np.stack([np.frombuffer(known[one], np.float16) for one in ids])

    def views(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Return what the reader saw of some cells, a JPEG of each; those that are not there are left out."""
        marks = ", ".join("?" * len(ids))
        return dict(self._all(f"SELECT id, jpeg FROM views WHERE id IN ({marks})", ids))

    def add_examples(self, cells: Iterable[tuple[str, JudgedCell]]) -> None:
        """Keep training cells with their labels, in place of those that were kept."""
        rows = [(one.path, label, _blob(_unit(one.features)), one.jpeg) for label, one in cells]
        with self._step() as base:
            base.execute("DELETE FROM examples")
            base.executemany("INSERT INTO examples VALUES (NULL, ?, ?, ?, ?)", rows)

    def examples(self) -> tuple[list[int], list[str], list[str], Array]:
        """Return ids, labels, paths and features, float16 (N, F), of the training cells."""
        rows = self._all("SELECT id, label, path, features FROM examples")
        features = [np.frombuffer(row[3], np.float16) for row in rows]
        known = np.stack(features) if features else np.empty((0, 0), np.float16)
        return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], known

    def example(self, one: int) -> bytes:
        """Return what the reader sees of a training cell, a JPEG; empty: it is not there."""
        found = self._all("SELECT jpeg FROM examples WHERE id = ?", (one,))
        return bytes(found[0][0]) if found else b""

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._turn:
            try:
                return self._base.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise BloodcellError(f"{self.file} cannot be read ({error}); remove it, then start again") from error

    @contextmanager
    def _step(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing."""
        with self._turn:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                yield self._base
                self._base.execute("COMMIT")
            except BaseException as error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise BloodcellError(f"cannot write {self.file} ({error}); is the disk full?") from error
                raise


def _unit(features: Array) -> Array:
    """Return features of length 1; those that are all 0 stay so."""
    wide = np.asarray(features, np.float32)
    return np.asarray(wide / max(float(np.linalg.norm(wide)), 1e-12))


def _blob(values: Array, kind: Any = np.float16) -> bytes:
    return np.asarray(values, kind).tobytes()
