"""Recall, precision and F1 of each class, with intervals that rest on the sources."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.intervals import Estimate, accuracy_by_image
from bloodcell.metrics.predictions import report_of


@dataclass(frozen=True)
class Score:
    """A figure of one class, every image counting one, and its 95 % interval; None where it cannot be known."""

    value: float | None
    interval: Estimate | None


@dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised.

    Attributes:
        name: Of the class.
        images: With this label.
        sources: With an image of this label; None where sources are unknown.
        recall: Of the images with this label, the share that is called so.
        precision: Of the images that are called so, the share that has this label; no value where there are none.
        f1: Harmonic mean of the two.
    """

    name: str
    images: int
    sources: int | None
    recall: Score
    precision: Score
    f1: Score


def scores_by_class(rows: pd.DataFrame, classes: list[str]) -> list[ClassScores]:
    """Return the scores of each class in some rows of a predictions table; the values are scikit-learn's."""
    report, known = report_of(rows, classes, as_dict=True), sources_known(rows)
    return [_scores(name, rows, report[name], known) for name in classes]


def _scores(name: str, rows: pd.DataFrame, report: dict[str, float], known: bool) -> ClassScores:
    """Return the scores of one class.

    Each is a share of some images that are right: recall of those with the label, precision of those that are called
    so. Of those of which either is true it is Jaccard's index J, and F1 = 2 J / (1 + J).
    """
    labelled, called = rows["label"] == name, rows["prediction"] == name
    recall, precision, either = (
        share_right(rows[chosen]) if known and chosen.any() else None
        for chosen in (labelled, called, labelled | called)
    )
    f1 = Estimate(_f1(either.value), _f1(either.low), _f1(either.high), either.sources) if either else None
    return ClassScores(
        name,
        int(labelled.sum()),
        rows.loc[labelled, "source"].nunique() if known else None,
        Score(report["recall"] if labelled.any() else None, recall),
        Score(report["precision"] if called.any() else None, precision),
        Score(report["f1-score"] if labelled.any() or called.any() else None, f1),
    )


def _f1(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


def share_right(rows: pd.DataFrame) -> Estimate:
    """Return the share of some rows that are right; the rows are of one kind, whatever their labels."""
    right = rows["label"] == rows["prediction"]
    said = right.map({True: "right", False: "wrong"}).tolist()
    return accuracy_by_image(["right"] * len(rows), said, rows["source"].astype(str).tolist())
