"""The metrics: name, title, computation, interval and place of each.

To add a metric, add an entry to `METRICS`: metrics.json, the report, the model card, the leaderboard, comparisons,
cross-validation and tuning read this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto
from typing import Literal

import numpy as np
import pandas as pd

from bloodcell.metrics.intervals import ConfusionScore, Estimate, confusion_estimate, macro_f1, mean_estimate
from bloodcell.metrics.parts import Parts, Weights, by_class_and_source, by_image, by_source, parts_of
from bloodcell.metrics.predictions import classes_of, probability_of, scores_of
from bloodcell.metrics.reliability import brier_score, reliability


class Place(Flag):
    """Where a metric is shown, besides metrics.json and cross_validation.csv, which have all."""

    TERMINAL = auto()  # the line of each part after training and evaluation
    REPORT = auto()  # the table of all metrics in report.html
    CARD = auto()  # the table of metrics in the model card
    LEADERBOARD = auto()
    COMPARISON = auto()  # gain.json, comparison.csv, and the lines of them and of cross-validation
    TUNING = auto()  # what tune.metric accepts
    EVERYWHERE = TERMINAL | REPORT | CARD | LEADERBOARD | COMPARISON | TUNING


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    With `weights` or `score` it has a 95 % interval if all sources are known. Without `value` it exists only then.
    """

    name: str  # its key in metrics.json, after the part and a slash
    title: str
    places: Place
    value: Callable[[pd.DataFrame, list[str]], float] | None = None  # of rows and all classes of the classifier
    weights: Weights | None = None  # it is a weighted mean of the parts' correctness; differences have an interval too
    score: ConfusionScore | None = None  # it is a function of the confusion matrix in which every source counts one
    lowest: float = 0.0  # the least that `score` can be; the most is 1
    direction: Literal["maximize", "minimize"] = "maximize"  # which way is better
    short: str = ""  # title in a sentence about accuracy, if it differs

    @property
    def has_interval(self) -> bool:
        """Whether it has an interval if sources are known."""
        return bool(self.weights or self.score)

    @property
    def words(self) -> str:
        """Title in a sentence about accuracy."""
        return self.short or self.title

    def estimate(self, parts: Parts) -> Estimate | None:
        """Return its value with a 95 % interval; None if it has no interval."""
        if self.weights:
            return mean_estimate(parts, *self.weights(parts))
        return confusion_estimate(parts, self.score, self.lowest) if self.score else None


def f1_by_class(rows: pd.DataFrame, classes: list[str]) -> dict[str, float | None]:
    """Return the F1 of each class, every image counting one; None for a class that has no image in these rows."""
    return {name: scores["f1-score"] for name, scores in scores_of(rows, classes).items()}


def _macro_f1(rows: pd.DataFrame, classes: list[str]) -> float:
    """Return the mean F1 of the classes with images: wrong predictions as another class are errors of the true one."""
    return float(np.mean([f1 for f1 in f1_by_class(rows, classes).values() if f1 is not None]))


def _loss(rows: pd.DataFrame, classes: list[str]) -> float:
    """Return the mean negative logarithm of the true class's probability."""
    return float(-np.log(np.maximum(probability_of(rows, "label"), np.finfo(float).tiny)).mean())


METRICS = [
    Metric(
        "accuracy", "accuracy", Place.REPORT | Place.CARD | Place.LEADERBOARD | Place.COMPARISON | Place.TUNING,
        lambda rows, _: float((rows["label"] == rows["prediction"]).mean()), weights=by_image,
    ),
    Metric(
        "accuracy_by_source", "accuracy by source", Place.REPORT | Place.COMPARISON | Place.TUNING,
        weights=by_source, short="by source",
    ),
    Metric(
        "macro_recall_by_source", "macro recall by source",
        Place.TERMINAL | Place.REPORT | Place.CARD | Place.COMPARISON | Place.TUNING, weights=by_class_and_source,
    ),
    Metric("macro_f1_by_source", "macro F1 by source", Place.REPORT | Place.TUNING, score=macro_f1),
    Metric(
        "macro_f1", "macro F1",
        Place.TERMINAL | Place.REPORT | Place.CARD | Place.LEADERBOARD | Place.TUNING,
        _macro_f1,
    ),
    Metric("loss", "loss", Place.LEADERBOARD | Place.TUNING, _loss, direction="minimize"),
    Metric("ece", "calibration error", Place.CARD, lambda rows, _: reliability(rows).ece, direction="minimize"),
    Metric("brier", "Brier score", Place(0), lambda rows, _: brier_score(rows), direction="minimize"),
]  # fmt: skip


def shown_in(place: Place) -> list[Metric]:
    """Return the metrics that are shown in a place, in their order."""
    return [metric for metric in METRICS if place in metric.places]


def tunable() -> dict[str, str]:
    """Return the names of the metrics that tuning accepts, and which way is better: maximize or minimize."""
    return {metric.name: metric.direction for metric in shown_in(Place.TUNING)}


def value_of(rows: pd.DataFrame, name: str) -> float:
    """Return one metric of rows of a predictions table, whose sources are known if the metric needs them."""
    metric = next(metric for metric in METRICS if metric.name == name)
    if metric.value:
        return metric.value(rows, classes_of(rows))
    if not (found := metric.estimate(parts_of(rows))):
        raise ValueError(f"the metric {name} has neither value nor interval")
    return found.value
