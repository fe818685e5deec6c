"""Recall, precision and F1 of each class, with intervals that rest on the sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.intervals import Estimate, mean_estimate
from bloodcell.metrics.parts import by_image, count_parts
from bloodcell.metrics.predictions import scores_of


@dataclass(frozen=True)
class Score:
    """A metric of one class, every image counting one, and its 95 % interval; None if it cannot be known.

    It cannot if the class has no image, or, for the precision, is never predicted.
    """

    value: float | None
    interval: Estimate | None

    @property
    def limits(self) -> tuple[float, float]:
        """Limits of its interval; 0 and 1 if it has none."""
        return (self.interval.low, self.interval.high) if self.interval else (0.0, 1.0)


@dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised."""

    name: str
    images: int  # with this label
    sources: int | None  # with an image of this label; None if sources are unknown
    recall: Score  # share of the images with this label that are predicted so
    precision: Score  # share of the images predicted so that have this label; no value if there are none
    f1: Score  # harmonic mean of the two


def scores_by_class(rows: pd.DataFrame, classes: list[str]) -> list[ClassScores]:
    """Return the scores of each class in some rows of a predictions table; the values are scikit-learn's."""
    scores, known = scores_of(rows, classes), sources_known(rows)
    narrow = rows[["label", "prediction", "source"]]  # chosen for each class, without its thousand probabilities
    return [_scores(name, narrow, one, known) for name, one in scores.items()]


def _scores(name: str, rows: pd.DataFrame, scores: dict[str, float | None], known: bool) -> ClassScores:
    labelled, predicted = rows["label"] == name, rows["prediction"] == name
    predicted &= labelled.any()
    recall, precision, jaccard = (
        Score(scores[key] if chosen.any() else None, share_right(rows[chosen]) if known and chosen.any() else None)
        for key, chosen in (("recall", labelled), ("precision", predicted), ("f1-score", labelled | predicted))
    )
    sources = rows.loc[labelled, "source"].nunique() if known else None
    f1 = Score(jaccard.value, jaccard.interval and _f1(jaccard.interval))
    return ClassScores(name, int(labelled.sum()), sources, recall, precision, f1)


def _f1(jaccard: Estimate) -> Estimate:
    """Return the F1 that goes with a Jaccard index J, the share right of the images labelled or predicted so."""
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Estimate(value, low, high, jaccard.sources)


def share_right(rows: pd.DataFrame) -> Estimate:
    """Return the share of rows that are right, all of them counted as one class."""
    outcome = np.where(rows["label"] == rows["prediction"], "right", "wrong").tolist()
    parts = count_parts(["right"] * len(rows), outcome, rows["source"])
    return mean_estimate(parts, *by_image(parts))
