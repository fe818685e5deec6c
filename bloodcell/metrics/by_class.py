"""Recall, specificity, precision and F1 of each class, with intervals that rest on the sources."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.intervals import Estimate, class_limits, mean_estimate
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
    recall: Score  # share of the images with this label that are predicted so: the sensitivity
    specificity: Score  # share of the images with another label that are not predicted so; no value if there are none
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
    right = rows["label"] == rows["prediction"]

    def score(value: float | None, chosen: pd.Series, outcome: pd.Series) -> Score:
        if not chosen.any():
            return Score(None, None)
        return Score(value, share_of(outcome[chosen], rows.loc[chosen, "source"]) if known else None)

    others, spared = ~labelled & labelled.any(), rows["prediction"] != name
    specificity = score(float(spared[others].mean()), others, spared)
    recall, precision, jaccard = (
        score(scores[key], chosen, right)
        for key, chosen in (("recall", labelled), ("precision", predicted), ("f1-score", labelled | predicted))
    )
    sources = rows.loc[labelled, "source"].nunique() if known else None
    f1 = Score(jaccard.value, jaccard.interval and _f1(jaccard.interval))
    return ClassScores(name, int(labelled.sum()), sources, recall, specificity, precision, f1)


def _f1(jaccard: Estimate) -> Estimate:
    """Return the F1 that goes with a Jaccard index J, the share right of the images labelled or predicted so."""
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Estimate(value, low, high, jaccard.sources)


def share_of(outcome: pd.Series, source: pd.Series) -> Estimate:
    """Return the share of rows whose outcome is true, (N,), all of them counted as one class; `source` is theirs."""
    parts = count_parts(["yes"] * len(outcome), np.where(outcome, "yes", "no").tolist(), source)
    return mean_estimate(parts, *by_image(parts))


def sources_needed(scores: ClassScores, least: float) -> float:
    """Return about how many sources of a class lift the intervals of its recall and precision above `least`, 0 to 1.

    The sources are taken to be like those at hand. It is infinite if one of the two is not above `least`: then only
    fewer errors help. The class has images, and its sources are known.
    """
    return max(_growth(one, least) for one in (scores.recall, scores.precision)) * (scores.sources or 0)


def _growth(score: Score, least: float) -> float:
    """Return by what factor the sources must grow until the interval's lower limit is `least`; at least 1."""
    if score.value is None or score.interval is None or score.value <= least:
        return math.inf
    if score.interval.low >= least:
        return 1.0
    return _size_for(score.value, least) / _size_for(score.value, score.interval.low)


def _size_for(value: float, low: float) -> float:
    """Return of how many independent images the lower limit is `low` if a share `value` is right; see `intervals`."""

    def excess(size: float) -> float:
        return float(class_limits(np.array(value), np.array(size), 1.0)[0]) - low

    return float(brentq(excess, 1e-3, 1e9)) if excess(1e-3) < 0 else 1e-3


def faultless_sources(least: float) -> int:
    """Return how many sources lift an interval's lower limit to `least`, 0 to 1, if none has an error."""
    return math.ceil(_size_for(1.0, least) - 1e-9)
