"""What an evaluation leaves in a folder: predictions, metrics, reports and figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bloodcell.metrics.by_source import estimates_of, flat
from bloodcell.metrics.predictions import classes_of, confusion_of, metrics_of, report_of, splits_of
from bloodcell.metrics.reliability import calibration_of
from bloodcell.runtime.io import write_csv, write_json


def write_evaluation(
    predictions: pd.DataFrame, folder: Path, figures: bool = True, trained_on: frozenset[str] = frozenset()
) -> dict[str, float]:
    """Write predictions.csv, the classification reports and the confusion matrices, and return the metrics.

    Args:
        predictions: The predictions table.
        folder: An existing folder.
        figures: Draw confusion matrices, as counts and as shares of each true class.
        trained_on: Sources of the training images, from which test figures on unseen sources follow.
    """
    write_csv(predictions, folder / "predictions.csv")
    classes = classes_of(predictions)
    parts = splits_of(predictions)
    texts = [f"{split}\n{report_of(rows, classes)}" for split, rows in parts.items()]
    (folder / "classification_report.txt").write_text("\n".join(texts), encoding="utf-8")
    reports = {split: report_of(rows, classes, as_dict=True) for split, rows in parts.items()}
    write_json(reports, folder / "classification_report.json")
    if figures:
        draw_confusions(parts, classes, folder / "figures")
    return figures_of(predictions, trained_on)


def figures_of(predictions: pd.DataFrame, trained_on: frozenset[str] = frozenset()) -> dict[str, float]:
    """Return all figures of an evaluation: metrics, calibration, and intervals by source.

    Args:
        predictions: The predictions table.
        trained_on: As in `write_evaluation`.
    """
    estimates = estimates_of(predictions, trained_on)
    return {**metrics_of(predictions), **calibration_of(predictions), **flat(estimates)}


def write_members(members: dict[str, pd.DataFrame], file: Path, trained_on: frozenset[str] = frozenset()) -> None:
    """Write the figures of each member of an ensemble, a row each: its checkpoint, and what metrics.json would hold.

    Args:
        members: Checkpoint -> predictions table.
        file: The CSV file.
        trained_on: As in `write_evaluation`.
    """
    rows = [{"checkpoint": name, **figures_of(table, trained_on)} for name, table in members.items()]
    write_csv(pd.DataFrame(rows), file)


def draw_confusions(parts: dict[str, pd.DataFrame], classes: list[str], folder: Path) -> None:
    """Draw the confusion matrices of each split."""
    from bloodcell.evaluation.figures import confusion_figure, save

    folder.mkdir(exist_ok=True)
    for split, rows in parts.items():
        matrix = confusion_of(rows, classes)
        title = f"{split}: {len(rows):,} images, {100 * (rows['label'] == rows['prediction']).mean():.1f} % right"
        save(
            confusion_figure(matrix, classes, title, normalise=False),
            folder / f"confusion_{split}_counts.png",
        )
        save(confusion_figure(matrix, classes, title, normalise=True), folder / f"confusion_{split}_shares.png")
