"""ROC and precision-recall curves: how well the probability of a class ranks its images before all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from bloodcell.metrics.by_class import share_of
from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.predictions import PROBABILITY

#: Points of a curve that get an interval, of images of the class and again of all images.
POINTS = 10


@dataclass(frozen=True)
class Ranking:
    """Curves of one class against all others; all images weigh the same."""

    name: str
    share: float  # of the images, that have this label
    roc: NDArray[Any]  # false positive rate and recall, (N, 2)
    precision_recall: NDArray[Any]  # recall and precision, (M, 2)
    auc: float  # area under the ROC curve
    average_precision: float  # mean precision over the recall


def rankings_of(rows: pd.DataFrame, classes: list[str]) -> list[Ranking]:
    """Return the curves of each class that some but not all of the rows of a predictions table have."""
    return [_ranking(rows, name) for name in classes if 0 < (rows["label"] == name).sum() < len(rows)]


def _ranking(rows: pd.DataFrame, name: str) -> Ranking:
    true, probability = (rows["label"] == name).to_numpy(), rows[PROBABILITY + name].to_numpy()
    false_rate, true_rate, _ = roc_curve(true, probability)
    precision, recall, _ = precision_recall_curve(true, probability)
    return Ranking(
        name,
        float(true.mean()),
        np.stack([false_rate, true_rate], axis=1),
        np.stack([recall, precision], axis=1),
        float(roc_auc_score(true, probability)),
        float(average_precision_score(true, probability)),
    )


@dataclass(frozen=True)
class Bands:
    """The 95 % intervals of two curves of one class at some thresholds, each (T, 3): place, lower and upper limit."""

    roc: NDArray[Any]  # of the recall, by false positive rate
    precision_recall: NDArray[Any]  # of the precision, by recall


def bands_of(rows: pd.DataFrame, name: str) -> Bands | None:
    """Return the intervals of the curves of a class of `rankings_of`, which rest on the sources; None if unknown.

    They hold at each threshold alone: the whole curve leaves its band more often than 1 time in 20.
    """
    if not sources_known(rows):
        return None
    true, probability = rows["label"] == name, rows[PROBABILITY + name]
    parts = np.linspace(0, 1, POINTS)
    chosen = [np.quantile(some, parts, method="nearest") for some in (probability[true], probability)]
    roc, precision_recall = [], []
    for threshold in np.unique(np.concatenate(chosen)):
        found = probability >= threshold
        recall = share_of(found[true], rows.loc[true, "source"])
        precision = share_of(true[found], rows.loc[found, "source"])
        roc.append((found[~true].mean(), recall.low, recall.high))
        precision_recall.append((recall.value, precision.low, precision.high))
    return Bands(np.array(roc), np.array(precision_recall))
