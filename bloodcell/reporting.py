"""The page at the end of an evaluation: report.html, with pictures of what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.evaluation.report import main_rows, write_report

#: Errors of which a picture is shown.
PICTURES = 12


@dataclass(frozen=True)
class Origin:
    """How predictions came about, for their page.

    Attributes:
        title: What predicted.
        classifier: Where it looked is shown in the pictures; None: there are several, or none is known.
        temperature: By which its probabilities are calibrated; 1 where they are not.
        notes: What else a reader ought to know.
        history: Its history.csv, where this is the end of its training.
    """

    title: str
    classifier: Any = None
    temperature: float = 1.0
    notes: tuple[str, ...] = ()
    history: pd.DataFrame | None = None


def report(
    predictions: pd.DataFrame, folder: Path, origin: Origin, trained_on: frozenset[str], root: Path | None
) -> None:
    """Write report.html.

    Args:
        predictions: The predictions table.
        folder: An existing folder.
        origin: How they came about.
        trained_on: Sources of the training images, so far as they are known.
        root: What the images' paths are relative to; None: they are not there, so the page has no pictures.
    """
    from bloodcell.evaluation.gallery import exhibits, worst_errors

    worst = worst_errors(main_rows(predictions, trained_on), PICTURES)
    write_report(
        predictions,
        folder / "report.html",
        title=origin.title,
        trained_on=trained_on,
        exhibits=() if root is None else exhibits(worst, root, origin.classifier),
        notes=origin.notes,
        history=origin.history,
        temperature=None if origin.temperature == 1 else origin.temperature,
    )
