"""Images counted by part: the images of one source under one label.

Parts are the unit of the evidence: images of one source are alike, whether they are copies or views of one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Parts:
    """The P pairs of source and label that occur."""

    classes: tuple[str, ...]  # the labels that occur, sorted; C of them
    label: Indices  # index of the part's label in `classes`, (P,)
    source: Indices  # index of the part's source from 0, (P,)
    counts: Floats  # images by predicted class, (P, C + 1); the last column counts predictions outside `classes`

    @property
    def images(self) -> Floats:
        """Images of each part, at least 1, (P,)."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def correct(self) -> Floats:
        """Share of each part's images that are predicted right, 0 to 1, (P,)."""
        return np.asarray(self.counts[np.arange(len(self.label)), self.label] / self.images)

    @property
    def sources(self) -> int:
        """Number of sources."""
        return len(np.unique(self.source))

    def by_class(self, values: Floats) -> Floats:
        """Sum of `values`, (P,), over the parts of each class, (C,)."""
        return np.asarray(np.bincount(self.label, values, len(self.classes)), dtype=np.float64)


#: Returns the weights of the parts within their class, (P,), and of the classes, (C,), for a mean over parts.
Weights = Callable[[Parts], tuple[Floats, Floats]]


def parts_of(rows: pd.DataFrame) -> Parts:
    """Return the parts of some rows of a predictions table, in which every source is known."""
    return count_parts(rows["label"], rows["prediction"], rows["source"])


def count_parts(labels: Sequence[str], predictions: Sequence[str], sources: Sequence[str]) -> Parts:
    """Count the images of each part, given the true class, predicted class and source of each image, (N,).

    Raises:
        ValueError: A source is missing.
    """
    if any(source is None or source != source or source == "" for source in sources):
        raise ValueError("the source of an image is missing: give unknown sources a name each")
    classes, label = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    names, source = np.unique(np.asarray(sources, dtype=str), return_inverse=True)
    part_of, part = np.unique(label * len(names) + source, return_inverse=True)
    predicted = pd.Index(classes).get_indexer([str(name) for name in predictions])  # -1, the last column: no such label
    counts = np.zeros((len(part_of), len(classes) + 1))
    np.add.at(counts, (part, predicted), 1.0)
    return Parts(tuple(classes.tolist()), part_of // len(names), part_of % len(names), counts)


def by_image(parts: Parts) -> tuple[Floats, Floats]:
    """Weigh parts and classes so that every image counts the same."""
    return parts.images, parts.by_class(parts.images)


def by_source(parts: Parts) -> tuple[Floats, Floats]:
    """Weigh parts and classes so that every source counts the same."""
    weight = parts.images / np.bincount(parts.source, weights=parts.images)[parts.source]
    return weight, parts.by_class(weight)


def by_class_and_source(parts: Parts) -> tuple[Floats, Floats]:
    """Weigh parts and classes so that every class counts the same, and every source within a class."""
    return np.ones(len(parts.label)), np.ones(len(parts.classes))
