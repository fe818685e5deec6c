"""Confusions between classes: of many classes, those between the most confused ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.metrics.parts import Floats

#: Most classes that are shown one by one in a picture, a page or a logger; files have all.
MOST = 30

Counts = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Confusions:
    """The part of a confusion matrix that can be read: R rows of true classes, and columns of predicted ones."""

    labels: list[str]  # (R,)
    predicted: list[str]  # the same, and if classes are left out, a last column for all of them
    counts: Counts  # images, (R, columns)
    shares: Floats  # of the images of the true class, 0 to 1, (R, columns)
    note: str  # which classes these are; '' if they are all


def most_confused(matrix: Counts) -> list[int]:
    """Return the places of at most `MOST` classes in a confusion matrix of counts (C, C), rising.

    They are the classes of the pairs that are taken for each other most often; if there are few such pairs, the first
    of the other classes too.
    """
    errors = matrix - np.diag(matrix.diagonal())
    pairs = np.argsort(-np.triu(errors + errors.T), axis=None, kind="stable")[: MOST**2]
    places = dict.fromkeys(np.stack(np.unravel_index(pairs, matrix.shape), axis=1).ravel().tolist())
    return sorted(list(places)[:MOST])


def confusions(matrix: Counts, classes: list[str]) -> Confusions:
    """Return what to show of a confusion matrix of counts (C, C), a row for each true class."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    if len(classes) <= MOST:
        return Confusions(classes, classes, matrix, shares, "")
    chosen = most_confused(matrix)
    left = np.setdiff1d(np.arange(len(classes)), chosen)
    parts = [np.column_stack([all_[chosen][:, chosen], all_[chosen][:, left].sum(axis=1)]) for all_ in (matrix, shares)]
    names = [classes[place] for place in chosen]
    note = f"the {MOST} most confused of {len(classes):,} classes"
    return Confusions(names, [*names, f"{len(left):,} others"], parts[0], parts[1], note)
