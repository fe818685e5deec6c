"""Sets of classes that contain the true one as often as asked, also for future sources.

A set contains every class whose probability is at or above a threshold (LAC: Sadinle, Lei & Wasserman 2019,
doi:10.1080/01621459.2017.1395341). The threshold is a quantile of the true class's probability on images that no
training has seen (split conformal prediction). Copies of a source are not exchangeable with those of another, but
sources are, so each of K sources weighs 1 / (K + 1), shared among its images; the last share is that of a future
source, which is assumed to be the worst (hierarchical conformal prediction: Lee, Barber & Willett 2023,
https://arxiv.org/abs/2306.06342; Dunn, Wasserman & Ramdas 2022, doi:10.1080/01621459.2022.2060112). Then the set of an
image of another source contains its true class with a probability of at least 1 - alpha, for any classifier.

That holds over all images; a rare or difficult class may be missed far more often. With a threshold for each class,
from its images alone, it holds in every class (Mondrian conformal prediction: Vovk, Gammerman & Shafer 2005,
doi:10.1007/b106715, chapter 4.5; Sadinle et al. 2019). Simulations: ``python tests/benchmarks/sets_by_class.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import source_weights, sources_of
from bloodcell.metrics.parts import Floats
from bloodcell.metrics.predictions import classes_of, matrix_of, probability_of
from bloodcell.runtime.errors import BloodcellError

Sets = np.ndarray[Any, np.dtype[np.bool_]]


def conformal_threshold(rows: pd.DataFrame, alpha: float) -> float:
    """Return the least probability of a class in a set, so that at most a share `alpha` of the sets miss the truth.

    Args:
        rows: Rows of a predictions table that no training has seen; an image of unknown source is its own source.
        alpha: How often the true class may be missing, between 0 and 1.

    Returns:
        0 to 1. It is 0, and all classes are in every set, if there are fewer than 1 / alpha - 1 sources.

    Raises:
        BloodcellError: alpha is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise BloodcellError(f"sets cannot miss the true class with alpha={alpha}; give a share, e.g. 0.1 for 10 %")
    sources = sources_of(rows).nunique()
    true = probability_of(rows, "label")
    order = np.argsort(true, kind="stable")
    known = sources / (sources + 1)
    below = np.concatenate([[0.0], source_weights(rows)[order].cumsum()])  # weight of what each threshold would miss
    last = int((known * below + 1 - known <= alpha + 1e-12).sum()) - 1
    return float(true[order][last]) if last >= 0 else 0.0


def class_thresholds(rows: pd.DataFrame, alpha: float) -> Floats:
    """Return the `conformal_threshold` of each class's own images, in the order of `classes_of`, (classes,).

    It is 0, and the class is in every set, if the class has fewer than 1 / alpha - 1 sources.
    """
    own = [rows[rows["label"] == name] for name in classes_of(rows)]
    return np.array([conformal_threshold(part, alpha) for part in own])


def conformal_sets(rows: pd.DataFrame, threshold: float | Floats) -> Sets:
    """Return which classes are in the set of each image, (N, classes); a set may be empty.

    The threshold is that of all classes, or of each, (classes,).
    """
    return np.asarray(matrix_of(rows) >= threshold)


def coverage_by_source(rows: pd.DataFrame, sets: Sets) -> float:
    """Return the share of the images whose set contains the true class, 0 to 1; all sources weigh the same.

    It is NaN if there are no images.
    """
    if rows.empty:
        return np.nan
    truth = pd.Index(classes_of(rows)).get_indexer(rows["label"])
    return float(source_weights(rows) @ sets[np.arange(len(rows)), truth])
