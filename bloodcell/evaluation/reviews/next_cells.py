"""Which cells to label next: those on which the reader is in doubt and which differ from one another.

Ash et al. 2020, "Deep batch active learning by diverse, uncertain gradient lower bounds"
(https://arxiv.org/abs/1906.03671): each cell is the gradient that its label would cause in the last layer if the reader
were right, its features times (probabilities - predicted class). It is long if the reader is in doubt, and points where
the cell does. Cells are drawn as k-means++ draws its centres, each with a chance that grows with the squared distance
to those that are drawn already (Arthur & Vassilvitskii 2007). The origin counts as drawn, for there are the cells of
which the reader is sure; the first cell is the one that is farthest from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: Labelled cells from which the others have to differ, at most: the latest.
MOST = 512


def doubt(probabilities: Array) -> Array:
    """Return 1 minus the difference of the two highest probabilities, float64 (N,), of probabilities (N, C)."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    highest = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(1 - (highest[:, 1] - highest[:, 0]))


def next_cells(
    probabilities: Array, features: Array, labelled: Sequence[int], open_cells: Array, count: int
) -> list[int]:
    """Return the rows of the cells to label next, the first first; the same each time.

    Args:
        probabilities: (N, C).
        features: Of unit length, (N, F).
        labelled: Rows of the cells with a label, the latest last.
        open_cells: bool (N,): which may be chosen.
        count: How many, at most.
    """
    error = np.asarray(probabilities, np.float32).copy()
    if not len(error):
        return []
    error[np.arange(len(error)), error.argmax(axis=1)] -= 1
    wide = np.asarray(features, np.float32)
    length = (error**2).sum(axis=1) * (wide**2).sum(axis=1)
    distance = length.copy()
    for row in labelled[-MOST:]:
        distance = np.minimum(distance, _distances(row, error, wide, length))
    rng, chosen, free = np.random.default_rng(0), list[int](), open_cells.copy()
    for _ in range(min(count, int(free.sum()))):
        row = _drawn(distance, free, rng) if chosen else int(np.where(free, distance, -1).argmax())
        chosen.append(row)
        free[row] = False
        distance = np.minimum(distance, _distances(row, error, wide, length))
    return chosen


def _distances(row: int, error: Array, features: Array, length: Array) -> Array:
    """Return the squared distances of all gradients to that of a row, without writing any of them down."""
    shared = (features @ features[row]) * (error @ error[row])
    return np.asarray(np.maximum(length + length[row] - 2 * shared, 0))


def _drawn(distance: Array, free: Array, rng: np.random.Generator) -> int:
    """Draw a free row, with a chance that grows with its squared distance."""
    weight = np.where(free, distance, 0).astype(np.float64)
    if not weight.sum():
        return int(np.flatnonzero(free)[0])
    return int(rng.choice(len(weight), p=weight / weight.sum()))
