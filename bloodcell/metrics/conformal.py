"""Sets of classes that hold the true one as often as is asked for, for sources that are yet to come.

A set holds every class of a probability at or above a threshold (LAC: Sadinle, Lei & Wasserman 2019,
doi:10.1080/01621459.2017.1395341). The threshold is a quantile of the true class's probability on images that no
training has seen (split conformal prediction). Copies of a source are not exchangeable with those of another, but
sources are, so every source weighs 1 / (K + 1), shared among its images; the last share is that of the source that is
yet to come, which may be as bad as can be (hierarchical conformal prediction: Lee, Barber & Willett 2023,
https://arxiv.org/abs/2306.06342; Dunn, Wasserman & Ramdas 2022, doi:10.1080/01621459.2022.2060112). Then an image of
another source has its true class in its set with a probability of at least 1 - alpha, whatever the classifier, over
the sources at hand and to come. Nothing is drawn: the same images give the same threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import source_weights, sources_of
from bloodcell.metrics.predictions import classes_of, matrix_of
from bloodcell.runtime.errors import BloodcellError

Sets = np.ndarray[Any, np.dtype[np.bool_]]


def conformal_threshold(rows: pd.DataFrame, alpha: float) -> float:
    """Return the least probability with which a class is in a set, so that sets miss at most `alpha` of the truth.

    Args:
        rows: Rows of a predictions table that no training has seen; images of unknown source stand for themselves.
        alpha: How often the true class may be missing, between 0 and 1.

    Returns:
        0 to 1; 0, and with it all classes in every set, where there are too few sources: fewer than 1 / alpha - 1.

    Raises:
        BloodcellError: alpha is no such number.
    """
    if not 0 < alpha < 1:
        raise BloodcellError(f"sets cannot miss the true class with alpha={alpha}; give a share, e.g. 0.1 for 10 %")
    sources = sources_of(rows).nunique()
    true = np.take_along_axis(matrix_of(rows), _truth(rows)[:, None], axis=1)[:, 0]
    order = np.argsort(true, kind="stable")
    known = sources / (sources + 1)
    below = np.concatenate([[0.0], source_weights(rows)[order].cumsum()])  # weight of what each threshold would miss
    last = int((known * below + 1 - known <= alpha + 1e-12).sum()) - 1
    return float(true[order][last]) if last >= 0 else 0.0


def conformal_sets(rows: pd.DataFrame, threshold: float) -> Sets:
    """Return which classes are in the set of each image, (N, classes), by the threshold of `conformal_threshold`.

    A set may be empty: then no class is as probable as the true one usually is.
    """
    return np.asarray(matrix_of(rows) >= threshold)


def coverage_by_source(rows: pd.DataFrame, sets: Sets) -> float:
    """Return the share of the images whose set holds the true class, 0 to 1, every source counting one."""
    return float(source_weights(rows) @ sets[np.arange(len(rows)), _truth(rows)])


def _truth(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the true class of each row as its index in `classes_of`, (N,)."""
    return np.asarray(pd.Index(classes_of(rows)).get_indexer(rows["label"]))
