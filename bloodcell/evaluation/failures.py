"""Where a classifier fails, cell by cell: a table, and a sheet with a picture of each of the worst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bloodcell.data.images import ImageError, read_image
from bloodcell.evaluation.figures import save
from bloodcell.evaluation.fonts import as_written
from bloodcell.metrics.predictions import probability_of
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv

COLUMNS = ["split", "source", "label", "images", "right", "mistaken_for", "confidence", "p_label", "path"]
#: Cells on a sheet, and in a row of it.
MOST, ACROSS = 24, 6


def errors_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are wrong, the worst first: the one rule of what a bad failure is.

    An error is the worse, the surer the classifier was of the wrong class; of two alike, that which gave less to the
    true class.
    """
    wrong = predictions[predictions["label"] != predictions["prediction"]]
    return wrong.iloc[np.lexsort((probability_of(wrong, "label"), -probability_of(wrong, "prediction")))]


def known_sources(predictions: pd.DataFrame) -> pd.Series[str]:
    """Return each row's source; an image of unknown source stands for itself, by its path or else its row."""
    source = predictions["source"].fillna("").astype(str)
    path = predictions["path"].fillna("").astype(str)
    row = "row " + predictions.index.astype(str).to_series(index=predictions.index)
    return source.where(source != "", path.where(path != "", row))


def failures_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each source, under each of its labels, of which an image is wrong, the worst first.

    Args:
        predictions: The predictions table; an image of unknown source stands for itself.

    Returns:
        Columns split, source, label, images, right (share of them), mistaken_for (the most frequent wrong class),
        confidence (in its wrong class, of the worst image), p_label (mean probability of the true class), path (of the
        worst image).
    """
    true, right = probability_of(predictions, "label"), predictions["label"] == predictions["prediction"]
    table = predictions.assign(p_label=true, right=right, source=known_sources(predictions))
    cell = ["split", "source", "label"]
    found = table.groupby(cell).agg(images=("path", "size"), right=("right", "mean"), p_label=("p_label", "mean"))
    errors = errors_of(table)
    worst = errors.assign(confidence=probability_of(errors, "prediction")).groupby(cell, sort=False)
    named = worst.agg(
        mistaken_for=("prediction", lambda names: names.mode()[0]),
        confidence=("confidence", "first"),
        path=("path", "first"),
    )
    return named.join(found).reset_index().sort_values("split", kind="stable")[COLUMNS]


def write_failures(predictions: pd.DataFrame, root: Path | None, folder: Path, figures: bool) -> None:
    """Write failures.csv and, for each split, figures/failures_SPLIT.png with a picture of each of the worst cells.

    Args:
        predictions: The predictions table.
        root: What the images' paths are relative to; None: they are not there, and no sheet is drawn.
        folder: An existing folder.
        figures: Draw the sheets.
    """
    failures = failures_of(predictions)
    write_csv(failures, folder / "failures.csv")
    if not figures or root is None:
        return
    (folder / "figures").mkdir(exist_ok=True)
    for split, rows in failures.groupby("split", sort=False):
        title = f"{split}: {len(rows):,} cells with a wrong image" + (f", the worst {MOST}" if len(rows) > MOST else "")
        save(sheet(rows[:MOST], root, title), folder / "figures" / f"failures_{split}.png")


def sheet(rows: pd.DataFrame, root: Path, title: str) -> Figure:
    """Draw one picture of each row of `failures_of`, with what it is, what it was taken for, and how often."""
    down = -(-len(rows) // ACROSS)
    figure = Figure(figsize=(2.1 * ACROSS, 1.95 * down + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    lettering = as_written([*rows["label"], *rows["mistaken_for"]])
    for axes, row in zip(grid, rows.itertuples(), strict=False):
        axes.imshow(_picture(root / str(row.path)))
        wrong = round(row.images * (1 - row.right))
        axes.set_title(f"{row.label}\nas {row.mistaken_for}, {wrong} of {row.images}", fontsize=7, **lettering)
    return figure


def _picture(file: Path) -> np.ndarray[Any, Any]:
    try:
        return read_image(file)
    except ImageError as error:
        raise BloodcellError(f"{file}: {error}") from error
