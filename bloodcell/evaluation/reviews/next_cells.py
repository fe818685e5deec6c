"""Which cells to label next: those that stand for many others, differ from one another, and leave the reader in doubt.

The cells are put into as many groups of like features as there will be labels, by k-means in which a cell of which the
reader is in doubt weighs up to twice as much. Of each group without a label, the cell nearest to its centre is taken,
that of the largest group first (Zhdanov 2019, "Diverse mini-batch active learning", https://arxiv.org/abs/1901.05954).

In a new laboratory the reader's doubt says little, so it only adds to the weight: choosing by doubt, by gradients
(Ash et al. 2020, https://arxiv.org/abs/1906.03671) or the farthest cells was worse there than choosing by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: Directions of the features in which cells differ most, cells that are grouped at most, and labels among them.
DIRECTIONS, MOST, LABELS = 64, 6000, 1000
#: Rounds of k-means.
ROUNDS = 20


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
    count = min(count, int(open_cells.sum()))
    if not count:
        return []
    known = np.asarray(labelled[-LABELS:], int)
    rows = np.concatenate([known, _some(np.flatnonzero(open_cells), max(MOST - len(known), count))])
    weight = 1 + doubt(probabilities[rows])
    places = _directions(np.asarray(features[rows], np.float32))
    return [int(rows[one]) for one in _from_groups(places, weight, len(known), count)]


def _some(rows: Array, most: int) -> Array:
    """Return at most that many of the rows, drawn by chance, the same each time."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _directions(features: Array) -> Array:
    """Return the features along the directions in which they differ most, float32 (N, K)."""
    from sklearn.decomposition import PCA

    wanted = min(DIRECTIONS, *features.shape)
    return np.asarray(PCA(wanted, svd_solver="randomized", random_state=0).fit_transform(features), np.float32)


def _from_groups(places: Array, weight: Array, known: int, count: int) -> list[int]:
    """Return the chosen rows of places (N, K); the first `known` rows have labels."""
    from sklearn.cluster import KMeans

    groups = min(known + count, len(places))
    fitted = KMeans(groups, n_init=1, max_iter=ROUNDS, random_state=0).fit(places, sample_weight=weight)
    own = fitted.labels_
    away = np.linalg.norm(places - fitted.cluster_centers_[own], axis=1)
    away[:known] = np.inf
    mass = np.bincount(own, weight, groups)
    covered = set(own[:known].tolist())
    nearest = sorted(range(known, len(places)), key=lambda row: away[row])
    first = {own[row]: row for row in reversed(nearest)}
    chosen = [first[group] for group in np.argsort(-mass, kind="stable") if group in first and group not in covered]
    others = sorted(set(nearest) - set(chosen), key=lambda row: -weight[row])  # if several labels share a group
    return [*chosen, *others][:count]
