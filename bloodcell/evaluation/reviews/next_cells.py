"""Which cells to label next: those that stand for most others that no labelled cell is like yet.

Two cells are apart by 1 minus the cosine of their features. Each cell is apart from the labels by its distance to the
nearest labelled cell. The next cell is the one whose label most lowers the sum of that over all cells, and so on, as if
each chosen one had its label already. A cell of which the reader is in doubt counts up to twice in the sum.

This is greedy facility location, which brings at least 63 % of what the best choice would (Nemhauser et al. 1978,
doi:10.1007/BF01588971); Wei et al. 2015 (https://proceedings.mlr.press/v37/wei15.html) choose what to label by it.

In a new laboratory the reader's doubt says little, so it is but a weight. Doubt alone, gradients (Ash et al. 2020,
https://arxiv.org/abs/1906.03671) and the farthest cells were worse there than a choice by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: Cells without a label that are compared with one another at most, and cells with a label that they are compared with.
MOST = 5000
#: Cells whose distances are changed at once, for less memory.
PART = 500


def doubt(probabilities: Array) -> Array:
    """Return 1 minus the difference of the two highest probabilities, float64 (N,), of probabilities (N, C)."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    highest = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(1 - (highest[:, 1] - highest[:, 0]))


def next_cells(probabilities: Array, features: Array, open_cells: Array, count: int) -> list[int]:
    """Return the rows of the cells to label next, the first first; the same each time.

    Args:
        probabilities: (N, C).
        features: Of unit length, (N, F).
        open_cells: bool (N,): which have no label yet.
        count: How many, at most.
    """
    count = min(count, int(open_cells.sum()))
    if not count:
        return []
    rows, labelled = _some(np.flatnonzero(open_cells), max(MOST, count)), _some(np.flatnonzero(~open_cells), MOST)
    places, known = (np.asarray(features[some], np.float32) for some in (rows, labelled))
    apart = 1 - places @ places.T
    away = (1 - places @ known.T).min(axis=1, initial=apart.max())
    return [int(rows[one]) for one in _chosen(apart, away, 1 + doubt(probabilities[rows]), count)]


def _some(rows: Array, most: int) -> Array:
    """Return at most that many of the rows, drawn by chance, the same each time."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _chosen(apart: Array, away: Array, weight: Array, count: int) -> list[int]:
    """Return the chosen rows, the first first.

    Args:
        apart: Distance of each two cells, (N, N).
        away: Distance of each cell to the nearest labelled one, (N,); it changes.
        weight: Of each cell, (N,).
        count: How many, at most N.
    """
    chosen, weight = list[int](), np.asarray(weight, np.float32)
    gain = _gain(apart, away, weight)
    for _ in range(count):
        gain[chosen] = -np.inf
        chosen.append(best := int(gain.argmax()))
        nearer = np.flatnonzero(apart[best] < away)  # only they change what others would gain
        gain -= _gain(apart[nearer], away[nearer], weight[nearer])
        away[nearer] = apart[best, nearer]
        gain += _gain(apart[nearer], away[nearer], weight[nearer])
    return chosen


def _gain(apart: Array, away: Array, weight: Array) -> Array:
    """Return by how much a label of each of N cells lowers the sum over M cells, float64 (N,); apart is (M, N)."""
    gain = np.zeros(apart.shape[1])
    for start in range(0, len(apart), PART):
        some = slice(start, start + PART)
        gain += weight[some] @ np.maximum(away[some, None] - apart[some], 0)
    return gain
