"""95 % intervals for metrics that rest on few independent sources.

A test set may consist of copies of few photographs: many images, little evidence. Parts (the images of one source
under one label) are exchangeable draws within their class; images of one source are alike with the intra-source
correlation rho of their class.

1.  rho of each class by moments from its own sources, with pseudo-sources that are all right or all wrong: few
    sources cannot prove that copies are independent (Ridout, Demetrio & Firth 1999,
    doi:10.1111/j.0006-341X.1999.00137.x; the pseudo-sources after Agresti & Coull 1998,
    doi:10.1080/00031305.1998.10480550). One rho for all classes would be that of the classes with many sources, and
    too small for a rare class whose sources are all right or all wrong.
2.  Each class has an effective number of independent images, and a beta interval at that number (Korn & Graubard
    1998, Survey Methodology 24:193-201; Dean & Pagano 2015, doi:10.1093/jssam/smv024). The upper limit is
    Clopper and Pearson's; so is the lower if the metric is below 1/2 or of one class, else it is close to Jeffreys'
    (Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286).
3.  The distances from the value to the class limits are added in squares (MOVER: Zou & Donner 2008,
    doi:10.1002/sim.3095). A class that is all right adds its distance downwards: no interval has zero width.
4.  Squares are too short if there are few sources, all right or all wrong. Up to `FEW` effective images of the whole
    metric, the limits are Clopper and Pearson's at that number if these are wider; beyond, their part falls as 1 / n.

Coverage and width, beside those of the bootstrap and others: ``python tests/benchmarks/interval_coverage.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from bloodcell.metrics.parts import Floats, Parts

TAIL = 0.025  # probability beyond each limit
INNER = 0.6  # beta parameter of the lower limit: Jeffreys has 1/2, Clopper and Pearson 1; by simulation
FEW = 10.0  # effective images up to which the whole metric has at least Clopper and Pearson's limits; by simulation
PSEUDO = 0.5  # two pseudo-sources of variance 1/4 each, rho = 1; by simulation
TRACE = 0.01  # share of a class's images that is added to each kind of error before they keep their proportions

#: A metric of row-normalised confusions, (C, C + 1), and of the number of parts in each class, (C,).
ConfusionScore = Callable[[Floats, Floats], float]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, low <= value <= high <= 1, and the number of sources behind it."""

    value: float
    low: float
    high: float
    sources: int


def source_correlation(parts: Parts) -> Floats:
    """Return the correlation of correctness between two images of one source, 0 to 1, by class, (C,).

    It compares the variance within and between the class's parts of several images; without two such it is 1.
    """
    return np.array([_correlation(parts, parts.label == c) for c in range(len(parts.classes))])


def _correlation(parts: Parts, chosen: NDArray[np.bool_]) -> float:
    chosen = chosen & (parts.images > 1)
    images, correct = parts.images[chosen], parts.correct[chosen]
    if len(images) < 2:
        return 1.0
    inside = correct * (1 - correct) * images / (images - 1)
    whole = PSEUDO + inside.sum() + len(images) * correct.var(ddof=1) - (inside / images).sum()
    return float(np.clip(1 - inside.sum() / max(whole, PSEUDO), 0.0, 1.0))


def class_sizes(parts: Parts, weight: Floats, correlation: Floats) -> Floats:
    """Return the effective number of independent images of each class, at least 1, (C,).

    The weights of the parts, (P,), sum to 1 in each class; `correlation` is that of `source_correlation`, (C,).
    """
    alike = correlation[parts.label]
    return 1 / parts.by_class(weight**2 * (alike + (1 - alike) / parts.images))


def class_limits(value: Floats, size: Floats, inner: float = INNER, tail: float = TAIL) -> tuple[Floats, Floats]:
    """Lower and upper limits of proportions `value`, (C,), of `size` independent images, (C,).

    `size` need not be whole, but at least 1; `inner` is the beta parameter of the lower limit, 1/2 to 1; `tail` is the
    probability beyond each limit.
    """
    hits, misses = value * size, (1 - value) * size
    low = betaincinv(hits + 1 - inner + 1e-12, misses + inner, tail)
    high = betaincinv(hits + 1, misses + 1e-12, 1 - tail)
    low, high = np.minimum(low, value), np.maximum(high, value)
    return np.where(value <= 0, 0.0, low), np.where(value >= 1, 1.0, high)


class _ByClass(NamedTuple):
    value: Floats  # share correct of each class, (C,)
    low: Floats  # its limits, (C,)
    high: Floats
    correlation: Floats  # of the classes, (C, C)
    size: float  # effective number of independent images of the whole metric


def _by_class(parts: Parts, weight: Floats, share: Floats) -> _ByClass:
    weight = weight / parts.by_class(weight)[parts.label]
    value = np.clip(np.round(parts.by_class(weight * parts.correct), 12), 0, 1)  # all right is exactly 1
    rho = source_correlation(parts)
    size = class_sizes(parts, weight, rho)
    shared = np.zeros((int(parts.source.max()) + 1, len(size)))
    shared[parts.source, parts.label] = weight  # a source under two labels ties their classes together
    correlation = np.sqrt(np.outer(rho, rho)) * (shared.T @ shared) * np.sqrt(np.outer(size, size))
    np.fill_diagonal(correlation, 1.0)
    alone = max(2 * share.max() / share.sum() - 1, 0.0)  # 1: one class is the whole metric
    inner = INNER + (1 - INNER) * alone if share @ value >= 0.5 * share.sum() else 1.0  # nearer to 0, the outer one
    low, high = class_limits(value, size, inner)
    spread = share / share.sum() / np.sqrt(size)
    return _ByClass(value, low, high, correlation, float(1 / (spread @ correlation @ spread)))


def _combine(parts: Parts, value: float, below: Floats, above: Floats, by: _ByClass, lowest: float = 0.0) -> Estimate:
    """Return the estimate, given the distances `below` and `above` the value that each class causes, (C,)."""
    value, span = min(round(value, 12), 1.0), 1 - lowest
    downwards, upwards = (float(np.sqrt(steps @ by.correlation @ steps)) for steps in (below, above))
    whole = np.clip(np.array((value - lowest) / span), 0, 1)
    low, high = class_limits(whole, np.array(by.size), 1.0)
    part = min(FEW / by.size, 1.0)
    downwards += part * max(span * float(whole - low) - downwards, 0.0)
    upwards += part * max(span * float(high - whole) - upwards, 0.0)
    return Estimate(value, max(value - downwards, lowest), min(value + upwards, 1.0), parts.sources)


def mean_estimate(parts: Parts, weight: Floats, share: Floats) -> Estimate:
    """Mean over classes, weighed by `share`, (C,), of the mean correctness of their parts, by `weight`, (P,)."""
    share = share / share.sum()
    by = _by_class(parts, weight, share)
    below, above = share * (by.value - by.low), share * (by.high - by.value)
    return _combine(parts, float(share @ by.value), below, above, by)


def confusion_score(parts: Parts, score: ConfusionScore) -> float:
    """Return a metric of the confusion matrix in which each part weighs one; see `confusion_estimate`."""
    return score(*_confusions(parts))


def confusion_estimate(parts: Parts, score: ConfusionScore, lowest: float = 0.0) -> Estimate:
    """Estimate a metric of the confusion matrix in which each part weighs one; it is `lowest` at worst and 1 at best.

    So a source counts one however many images it has, a class counts as much as it has sources, and a source whose
    images carry several labels counts one under each. The distances are the metric's changes when the recall of one
    class moves to its limits: downwards its errors keep their proportions, upwards those that hurt most vanish first.
    """
    rows, held = _confusions(parts)
    by = _by_class(parts, np.ones(len(parts.label)), np.ones(len(held)))
    value = score(rows, held)
    lowered = (_score_with(score, rows, held, c, _with_recall(rows[c], c, low)) for c, low in enumerate(by.low))
    below = np.array([value - one for one in lowered])
    above = np.array([_best(score, rows, held, c, high) - value for c, high in enumerate(by.high)])
    return _combine(parts, value, np.maximum(below, 0), np.maximum(above, 0), by, lowest)


def _confusions(parts: Parts) -> tuple[Floats, Floats]:
    held = parts.by_class(np.ones(len(parts.label)))
    rows = np.zeros((len(held), len(held) + 1))
    np.add.at(rows, parts.label, parts.counts / parts.images[:, None] / held[parts.label][:, None])
    return rows, held


def _with_recall(row: Floats, c: int, recall: float) -> Floats:
    """Return a row of class c with the given recall; its errors keep their proportions."""
    errors = row.copy()
    errors[:-1] += TRACE
    errors[-1] += TRACE * (len(row) == 2)
    errors[c] = 0
    moved = errors / errors.sum() * (1 - recall)
    moved[c] = recall
    return np.asarray(moved)


def _best(score: ConfusionScore, rows: Floats, held: Floats, c: int, recall: float) -> float:
    """Return the largest score if class c rises to `recall` and the errors towards one class vanish first."""
    best = _score_with(score, rows, held, c, _with_recall(rows[c], c, recall))
    for column in np.flatnonzero(rows[c]):  # errors that are not there cannot vanish
        fewer = rows[c].copy()
        fewer[column] -= min(rows[c, column], recall - rows[c, c])
        best = max(best, _score_with(score, rows, held, c, _with_recall(fewer, c, recall)))
    return best


def _score_with(score: ConfusionScore, rows: Floats, held: Floats, c: int, row: Floats) -> float:
    """Return the score with another row of class c, which `rows` hold meanwhile: a copy for each would take minutes."""
    kept = rows[c].copy()
    rows[c] = row
    value = score(rows, held)
    rows[c] = kept
    return value


def macro_f1(rows: Floats, held: Floats) -> float:
    """Return the mean F1 of the classes that occur as labels."""
    return float((2 * held * rows.diagonal() / (held + held @ rows[:, :-1])).mean())
