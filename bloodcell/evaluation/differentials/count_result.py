"""The folder of a differential count as a Python object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bloodcell.evaluation.run import read_table
from bloodcell.runtime.errors import BloodcellError


@dataclass(frozen=True)
class Counts:
    """What `bloodcell differential` left.

    Attributes:
        folder: The folder, with differential.csv, slides.csv, cells.csv and report.html.
    """

    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """A row for each slide and class.

        It has class, count, share, low and high (0 to 1) of white cells, per_100, per_100_low and per_100_high of
        others, cells and corrected.
        """
        return read_table(self.folder / "differential.csv")

    @property
    def slides(self) -> pd.DataFrame:
        """A row for each slide, with fields, cells, counted, confirmed, and those left out for each reason."""
        return read_table(self.folder / "slides.csv")

    @property
    def cells(self) -> pd.DataFrame:
        """A row for each cell, as `bloodcell predict` writes it."""
        return read_table(self.folder / "cells.csv")

    @property
    def confirmed(self) -> pd.DataFrame:
        """A row for each cell on which a human has decided, with slide, path, prediction and label.

        Raises:
            BloodcellError: The count had no corrections.
        """
        file = self.folder / "confirmed.csv"
        if not file.is_file():
            raise BloodcellError(f"{self.folder} has no confirmed.csv; count with corrections=FILE")
        return read_table(file)

    @property
    def report(self) -> Path | None:
        """The page, if there is one."""
        file = self.folder / "report.html"
        return file if file.is_file() else None
