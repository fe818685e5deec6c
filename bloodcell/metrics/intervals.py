"""95 % intervals for figures that rest on few independent sources.

The images of a test set may be copies of few photographs: the images are many, the evidence is not. Here the
unit is the *part*: the images of one source (cell, photograph, patient) under one label. Parts of a class are
exchangeable draws; images of one source are alike with the intra-source correlation rho.

1.  rho by moments, pooled over the classes, with pseudo-sources that are all right or all wrong: few sources
    cannot prove that copies are independent (Ridout, Demetrio & Firth 1999, doi:10.1111/j.0006-341X.1999.00137.x;
    the pseudo-sources after Agresti & Coull 1998, doi:10.1080/00031305.1998.10480550).
2.  Each class has an effective number of independent images, and a beta interval at that number (Korn & Graubard
    1998, Survey Methodology 24:193-201; Dean & Pagano 2015, doi:10.1093/jssam/smv024). The upper limit is
    Clopper and Pearson's; so is the lower where the figure is below 1/2, else it is close to Jeffreys' (Brown,
    Cai & DasGupta 2001, doi:10.1214/ss/1009213286).
3.  The distances from the value to the class limits are added in squares (MOVER: Zou & Donner 2008,
    doi:10.1002/sim.3095). A class that is all right adds its distance downwards: no interval has zero width.

Coverage and width, beside those of the bootstrap and others: ``python tests/benchmarks/interval_coverage.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Names = Sequence[str]

TAIL = 0.025  # probability beyond each limit
INNER = 0.6  # beta parameter of the lower limit: Jeffreys has 1/2, Clopper and Pearson 1; by simulation
PSEUDO = 0.5  # two pseudo-sources of variance 1/4 each, rho = 1; by simulation
TRACE = 0.01  # share of a class's images that is added to each kind of error before they keep their proportions


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, 0 <= low <= value <= high <= 1, and the number of sources behind it."""

    value: float
    low: float
    high: float
    sources: int


@dataclass(frozen=True)
class Parts:
    """Images counted by part: one row for each pair of source and label that occurs.

    Attributes:
        classes: the labels that occur, sorted; C of them.
        label: index of the part's label in `classes`, (P,).
        source: index of the part's source from 0, (P,).
        counts: images by predicted class, (P, C + 1); the last column is for predictions outside `classes`.
    """

    classes: tuple[str, ...]
    label: Indices
    source: Indices
    counts: Floats

    @property
    def images(self) -> Floats:
        """Images of each part, at least 1, (P,)."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def correct(self) -> Floats:
        """Share of each part's images that are predicted right, 0 to 1, (P,)."""
        return np.asarray(self.counts[np.arange(len(self.label)), self.label] / self.images)

    def by_class(self, values: Floats) -> Floats:
        """Sum of `values`, (P,), over the parts of each class, (C,)."""
        return np.asarray(np.bincount(self.label, values, len(self.classes)), dtype=np.float64)


def count_parts(labels: Names, predictions: Names, sources: Names) -> Parts:
    """Count the images of each part by predicted class.

    Args:
        labels: true class of each image, (N,).
        predictions: predicted class of each image, (N,).
        sources: source of each image, (N,); an image of unknown source needs a name of its own.

    Raises:
        ValueError: if there is no image, the lengths differ or a source is missing.
    """
    if not len(labels) or not len(labels) == len(predictions) == len(sources):
        sizes = f"not {len(labels)}, {len(predictions)} and {len(sources)}"
        raise ValueError(f"labels, predictions and sources must be equally long and not empty, {sizes}")
    missing = [i for i, source in enumerate(sources) if source is None or source != source or source == ""]
    if missing:
        raise ValueError(f"the source of image {missing[0]} is missing: give unknown sources a name each")
    classes, label = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    names, source = np.unique(np.asarray(sources, dtype=str), return_inverse=True)
    part_of, part = np.unique(label * len(names) + source, return_inverse=True)
    column = {name: i for i, name in enumerate(classes.tolist())}
    predicted = np.array([column.get(str(name), len(column)) for name in predictions])
    counts = np.zeros((len(part_of), len(column) + 1))
    np.add.at(counts, (part, predicted), 1.0)
    return Parts(tuple(column), part_of // len(names), part_of % len(names), counts)


def source_correlation(parts: Parts) -> float:
    """Correlation of correctness between two images of one source, 0 to 1, pooled over the classes.

    It compares the variance within and between parts of several images; without two such in any class it is 1.
    """
    within, whole, several = 0.0, PSEUDO, parts.images > 1
    for c in range(len(parts.classes)):
        chosen = several & (parts.label == c)
        images, correct = parts.images[chosen], parts.correct[chosen]
        if len(images) > 1:
            inside = correct * (1 - correct) * images / (images - 1)
            within += inside.sum()
            whole += inside.sum() + len(images) * correct.var(ddof=1) - (inside / images).sum()
    return float(np.clip(1 - within / max(whole, PSEUDO), 0.0, 1.0))


def class_limits(value: Floats, size: Floats, inner: float = INNER) -> tuple[Floats, Floats]:
    """Lower and upper limits of proportions `value`, (C,), of `size` independent images, (C,).

    `size` need not be whole, but at least 1; `inner` is the beta parameter of the lower limit, 1/2 to 1.
    """
    hits, misses = value * size, (1 - value) * size
    low = betaincinv(hits + 1 - inner + 1e-12, misses + inner, TAIL)
    high = betaincinv(hits + 1, misses + 1e-12, 1 - TAIL)
    low, high = np.minimum(low, value), np.maximum(high, value)
    return np.where(value <= 0, 0.0, low), np.where(value >= 1, 1.0, high)


class _ByClass(NamedTuple):  # share correct of each class, its limits, (C,), and the classes' correlation, (C, C)
    value: Floats
    low: Floats
    high: Floats
    correlation: Floats


def _by_class(parts: Parts, weight: Floats, share: Floats) -> _ByClass:
    """Value and limits of each class, its parts weighed by `weight`, (P,); `share`, (C,), weighs the classes."""
    weight = weight / parts.by_class(weight)[parts.label]
    value = np.clip(np.round(parts.by_class(weight * parts.correct), 12), 0, 1)  # all right is exactly 1
    rho = source_correlation(parts)
    size = 1 / parts.by_class(weight**2 * (rho + (1 - rho) / parts.images))
    shared = np.zeros((int(parts.source.max()) + 1, len(size)))
    shared[parts.source, parts.label] = weight  # a source under two labels ties their classes together
    correlation = rho * (shared.T @ shared) * np.sqrt(np.outer(size, size))
    np.fill_diagonal(correlation, 1.0)
    inner = INNER if share @ value >= 0.5 * share.sum() else 1.0  # nearer to 0, the lower limit is the outer one
    low, high = class_limits(value, size, inner)
    return _ByClass(value, low, high, correlation)


def _combine(parts: Parts, value: float, below: Floats, above: Floats, correlation: Floats) -> Estimate:
    """Estimate from the distances `below` and `above` the value that each class causes, (C,)."""
    value = min(round(value, 12), 1.0)
    low = max(value - float(np.sqrt(below @ correlation @ below)), 0.0)
    high = min(value + float(np.sqrt(above @ correlation @ above)), 1.0)
    return Estimate(value, low, high, len(np.unique(parts.source)))


def mean_estimate(parts: Parts, weight: Floats, share: Floats) -> Estimate:
    """Mean over classes, weighed by `share`, (C,), of the mean correctness of their parts, by `weight`, (P,)."""
    share = share / share.sum()
    by = _by_class(parts, weight, share)
    below, above = share * (by.value - by.low), share * (by.high - by.value)
    return _combine(parts, float(share @ by.value), below, above, by.correlation)


def by_image(parts: Parts) -> tuple[Floats, Floats]:
    """Weights of the parts, (P,), and of the classes, (C,), where every image counts one."""
    return parts.images, parts.by_class(parts.images)


def by_source(parts: Parts) -> tuple[Floats, Floats]:
    """Weights of the parts, (P,), and of the classes, (C,), where every source counts one."""
    weight = parts.images / np.bincount(parts.source, weights=parts.images)[parts.source]
    return weight, parts.by_class(weight)


def by_class_and_source(parts: Parts) -> tuple[Floats, Floats]:
    """Weights of the parts, (P,), and of the classes, (C,), where classes count alike, and sources within a class."""
    return np.ones(len(parts.label)), np.ones(len(parts.classes))


def accuracy_by_image(labels: Names, predictions: Names, sources: Names) -> Estimate:
    """Share of the images that are predicted right; arguments and errors as in `count_parts`."""
    parts = count_parts(labels, predictions, sources)
    return mean_estimate(parts, *by_image(parts))


def accuracy_by_source(labels: Names, predictions: Names, sources: Names) -> Estimate:
    """Mean over the sources of the share of a source's images that are predicted right; see `count_parts`."""
    parts = count_parts(labels, predictions, sources)
    return mean_estimate(parts, *by_source(parts))


def macro_recall_by_source(labels: Names, predictions: Names, sources: Names) -> Estimate:
    """Mean over the classes of their recall by source; arguments and errors as in `count_parts`."""
    parts = count_parts(labels, predictions, sources)
    return mean_estimate(parts, *by_class_and_source(parts))


def recall_by_source(labels: Names, predictions: Names, sources: Names) -> dict[str, Estimate]:
    """Each class's mean over its sources of the share predicted right; arguments and errors as in `count_parts`.

    The correlation is pooled over the classes. A source whose images carry several labels counts one under each.
    """
    parts, found = count_parts(labels, predictions, sources), {}
    for c, name in enumerate(parts.classes):
        by = _by_class(parts, np.ones(len(parts.label)), np.eye(len(parts.classes))[c])
        held = int((parts.label == c).sum())
        found[name] = Estimate(float(by.value[c]), float(by.low[c]), float(by.high[c]), held)
    return found


def macro_f1_by_source(labels: Names, predictions: Names, sources: Names) -> Estimate:
    """Mean F1 of the classes that occur as labels, each part weighing one in the confusion matrix.

    So a source counts one however many its images, a class as much as it has sources, and a source whose images
    carry several labels one under each. The distances are the figure's moves when one class's recall goes to its
    limits: downwards its errors keep their proportions, upwards those that hurt most vanish first.
    """
    return f1_estimate(count_parts(labels, predictions, sources))


def f1_estimate(parts: Parts) -> Estimate:
    """Macro F1 of the parts as in `macro_f1_by_source`."""
    held = parts.by_class(np.ones(len(parts.label)))
    by = _by_class(parts, np.ones(len(parts.label)), np.ones(len(held)))
    rows = np.zeros((len(held), len(held) + 1))
    np.add.at(rows, parts.label, parts.counts / parts.images[:, None] / held[parts.label][:, None])
    value = _macro_f1(rows, held)
    below = np.array([value - _macro_f1(_with_recall(rows, c, low), held) for c, low in enumerate(by.low)])
    above = np.array([_best_f1(rows, held, c, high) - value for c, high in enumerate(by.high)])
    return _combine(parts, value, np.maximum(below, 0), np.maximum(above, 0), by.correlation)


def _macro_f1(rows: Floats, held: Floats) -> float:
    """Macro F1 of row-normalised confusions, (C, C + 1), of classes with `held` parts, (C,)."""
    return float((2 * held * rows.diagonal() / (held + held @ rows[:, :-1])).mean())


def _with_recall(rows: Floats, c: int, recall: float) -> Floats:
    """`rows` where class c has the given recall and its errors keep their proportions."""
    errors = rows[c].copy()
    errors[: len(rows)] += TRACE
    errors[-1] += TRACE * (len(rows) == 1)
    errors[c] = 0
    moved = rows.copy()
    moved[c] = errors / errors.sum() * (1 - recall)
    moved[c, c] = recall
    return moved


def _best_f1(rows: Floats, held: Floats, c: int, recall: float) -> float:
    """Largest macro F1 when class c rises to `recall`, the errors towards one class vanishing before others."""
    options = [_with_recall(rows, c, recall)]
    for column in range(rows.shape[1]):
        fewer = rows.copy()
        fewer[c, column] -= min(rows[c, column], recall - rows[c, c])
        options.append(_with_recall(fewer, c, recall))
    return max(_macro_f1(option, held) for option in options)
