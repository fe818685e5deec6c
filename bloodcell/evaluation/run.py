"""A run's folder as a Python object: its figures and tables, read when they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.metrics.summary import read_metrics
from bloodcell.runtime.errors import BloodcellError, nearest

#: Columns of text: a class may be called NA, or 01.
_NAMES = (
    "path", "source", "split", "set", "label", "prediction", "suggested", "mistaken_for", "cell", "slide", "class",
    "other",
)  # fmt: skip


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """The folder that a training or an evaluation left; `load`, `evaluate` and `export` take it as they take its path.

    Attributes:
        folder: The folder, with config.yaml, run.json and all that follows.
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def metrics(self) -> pd.Series:
        """The figures of metrics.json by name, e.g. `test/accuracy` (0 to 1) with `test/accuracy_low` and `_high`."""
        return pd.Series(read_metrics(self.folder), name="value", dtype=float)

    @property
    def predictions(self) -> pd.DataFrame:
        """A row an image, with path, split, source, label, prediction, and p_CLASS for each class."""
        return read_predictions(self._file("predictions"))

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch, with loss and accuracy of training and validation."""
        return self.table("history")

    @property
    def report(self) -> Path | None:
        """The page of figures, if there is one."""
        file = self.folder / "report.html"
        return file if file.is_file() else None

    @property
    def tables(self) -> list[str]:
        """The names that `table` takes."""
        return sorted(file.stem for file in self.folder.glob("*.csv"))

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the folder, e.g. `leaderboard` or `out_of_fold` of a cross-validation.

        Raises:
            BloodcellError: There is no such table.
        """
        return read_table(self._file(name))

    def _file(self, name: str) -> Path:
        if name not in self.tables:
            raise BloodcellError(f"{self.folder} has no table '{name}'; {nearest(name, self.tables)}")
        return self.folder / f"{name}.csv"


def read_table(file: Path) -> pd.DataFrame:
    """Read a table that a verb wrote; its columns of names are text, whatever they look like."""
    numbers = [column for column in pd.read_csv(file, nrows=0) if column not in _NAMES]
    empty = {column: [""] for column in numbers}
    return pd.read_csv(file, dtype=dict.fromkeys(_NAMES, str), keep_default_na=False, na_values=empty)
