"""The page at the end of an evaluation or a cross-validation: report.html, with pictures of what went wrong."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.cross_validation import SUSPECTS
from bloodcell.evaluation.reading import read_predictions
from bloodcell.evaluation.report import main_rows, write_report

#: Errors of which a picture is shown, and suspected labels.
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
    predictions: pd.DataFrame,
    file: Path,
    origin: Origin,
    trained_on: frozenset[str],
    root: Path | None,
    suspects: pd.DataFrame | None = None,
) -> None:
    """Write the page.

    Args:
        predictions: The predictions table.
        file: Where to, in an existing folder.
        origin: How they came about.
        trained_on: Sources of the training images, so far as they are known.
        root: What the images' paths are relative to; None: they are not there, so the page has no pictures.
        suspects: Labels that may be wrong, as `suspected_labels` finds them; None: nothing can be said of them.
    """
    from bloodcell.evaluation.gallery import exhibits, worst_errors

    worst = worst_errors(main_rows(predictions, trained_on), PICTURES)
    doubtful = predictions[:0] if suspects is None else _images_of(suspects[:PICTURES], predictions)
    write_report(
        predictions,
        file,
        title=origin.title,
        trained_on=trained_on,
        exhibits=() if root is None else exhibits(worst, root, origin.classifier),
        suspects=suspects,
        suspect_exhibits=() if root is None else exhibits(doubtful, root, origin.classifier),
        notes=origin.notes,
        history=origin.history,
        temperature=None if origin.temperature == 1 else origin.temperature,
    )


def _images_of(suspects: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the row of the predictions table of each suspected label's picture."""
    pictures = predictions.drop_duplicates(["path", "label"])
    return suspects[["path", "label"]].merge(pictures, on=["path", "label"])


def report_folds(summary: pd.DataFrame, folder: Path, root: Path) -> None:
    """Write a page for each cross-validation of a multirun and for their mean: report.html for out_of_fold.csv.

    Args:
        summary: What `out_of_fold` returns.
        folder: The multirun's, with the files that it wrote.
        root: What the images' paths are relative to.
    """
    rows = summary.to_dict("records")
    shared = {row["predictions"]: _sources_of_several_folds(folder / row["predictions"]) for row in rows}
    for row in rows:
        name = row["predictions"]
        met = frozenset[str]().union(*shared.values()) if row["members"] > 1 else shared[name]
        suspects = _table(folder / name.replace(*SUSPECTS)) if pd.notna(row["suspects"]) else None
        file = folder / name.replace("out_of_fold", "report").replace(".csv", ".html")
        report(read_predictions(folder / name), file, _origin_of_folds(row), met, root, suspects)


def _table(file: Path) -> pd.DataFrame:
    """Return a CSV file's content, in which a class or source may be called NA."""
    return pd.read_csv(file, dtype=dict.fromkeys(("source", "label", "suggested", "path"), str), keep_default_na=False)


def _sources_of_several_folds(file: Path) -> frozenset[str]:
    """Return the sources that were in training and validation of some fold; none of a mean, which has no folds."""
    table = _table(file)
    if "fold" not in table:
        return frozenset()
    folds = table[table["source"] != ""].groupby("source")["fold"].nunique()
    return frozenset(folds.index[folds > 1])


def _origin_of_folds(row: dict[Hashable, Any]) -> Origin:
    """Return how the predictions of a row of `out_of_fold` came about."""
    how = "cross-validation: each image is predicted by the net of a fold in whose training it was not"
    notes = f"{how}, nor any other image of its source" if pd.notna(row["suspects"]) else how
    return Origin(f"{row['predictions']}: {row['choices']}", notes=(notes,))
