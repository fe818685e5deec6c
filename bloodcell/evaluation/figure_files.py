"""The files of figures/: of each split confusions, scores, calibration, curves and failures, in one or more formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.evaluation.curve_figures import calibration_figure, ranking_figure, scores_figure
from bloodcell.evaluation.figures import confusion_figure, failures_figure, save
from bloodcell.metrics.by_class import scores_by_class
from bloodcell.metrics.confusions import confusions
from bloodcell.metrics.predictions import classes_of, confusion_of, splits_of
from bloodcell.metrics.reliability import reliability
from bloodcell.metrics.roc import bands_of, rankings_of


def write_figures(
    predictions: pd.DataFrame,
    failures: pd.DataFrame,
    folder: Path,
    formats: Sequence[str],
    root: Path | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write the figures of a predictions table, and of its failures if `root`, the folder of the images, is given.

    `formats` are png, pdf or svg. With `preprocessing`, failures show the square that the net saw.
    """
    folder.mkdir(exist_ok=True)
    for split, rows in splits_of(predictions).items():
        for name, figure in _of_split(split, rows, classes_of(predictions)):
            save(figure, folder / f"{name}.png", formats)
    if root is not None:
        for split, rows in failures.groupby("split", sort=False):
            save(failures_figure(rows, root, str(split), preprocessing), folder / f"failures_{split}.png", formats)


def _of_split(split: str, rows: pd.DataFrame, classes: list[str]) -> Iterator[tuple[str, Figure]]:
    """Draw the figures of one split, each with the name of its file; of many classes those that are most confused."""
    images = f"{split}: {len(rows):,} images"
    title = f"{images}, {100 * (rows['label'] == rows['prediction']).mean():.1f} % right"
    matrix = confusion_of(rows, classes)
    for name, normalise in (("counts", False), ("shares", True)):
        yield f"confusion_{split}_{name}", confusion_figure(matrix, classes, title, normalise)
    shown = confusions(matrix, classes)
    title = f"{title}\n{shown.note}" if shown.note else title
    scores = [one for one in scores_by_class(rows, classes) if one.name in shown.labels]
    yield f"scores_{split}", scores_figure(scores, title)
    yield f"calibration_{split}", calibration_figure(reliability(rows), images)
    if rankings := rankings_of(rows, shown.labels):
        bands = [bands_of(rows, one.name) for one in rankings]
        for name in ("roc", "precision_recall"):
            yield f"{name}_{split}", ranking_figure(rankings, name, title, bands)
