"""Where a classifier fails, cell by cell: a table, and a sheet with a picture of each of the worst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bloodcell.data.images import ImageError, read_image
from bloodcell.errors import BloodcellError
from bloodcell.evaluation.figures import save
from bloodcell.evaluation.predictions import PROBABILITY, classes_of
from bloodcell.files import write_csv

COLUMNS = ["split", "source", "label", "images", "right", "mistaken_for", "p_label", "path"]
#: Cells on a sheet, and in a row of it.
MOST, ACROSS = 24, 6


def failures_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each source, under each of its labels, of which an image is wrong, the worst first.

    Args:
        predictions: The predictions table; an image of unknown source stands for itself.

    Returns:
        Columns split, source, label, images, right (share of them), mistaken_for (the most frequent wrong class),
        p_label (mean probability of the true class), path (of the image that is wrong with the most certainty).
    """
    classes = classes_of(predictions)
    probabilities = predictions[[PROBABILITY + name for name in classes]].to_numpy()
    true = probabilities[np.arange(len(predictions)), pd.Index(classes).get_indexer(predictions["label"])]
    source = predictions["source"].fillna("").where(predictions["source"].fillna("") != "", predictions["path"])
    table = predictions.assign(p_label=true, right=predictions["label"] == predictions["prediction"], source=source)
    cell = ["split", "source", "label"]
    wrong = table[~table["right"]].sort_values("p_label", kind="stable").groupby(cell)
    found = table.groupby(cell).agg(images=("path", "size"), right=("right", "mean"), p_label=("p_label", "mean"))
    worst = wrong.agg(mistaken_for=("prediction", lambda names: names.mode()[0]), path=("path", "first"))
    return found.join(worst, how="inner").reset_index().sort_values(["split", "p_label"], kind="stable")[COLUMNS]


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
    for axes, row in zip(grid, rows.itertuples(), strict=False):
        axes.imshow(_picture(root / str(row.path)))
        wrong = round(row.images * (1 - row.right))
        axes.set_title(f"{row.label}\nas {row.mistaken_for}, {wrong} of {row.images}", fontsize=7)
    return figure


def _picture(file: Path) -> np.ndarray[Any, Any]:
    try:
        return read_image(file)
    except ImageError as error:
        raise BloodcellError(f"{file}: {error}") from error
