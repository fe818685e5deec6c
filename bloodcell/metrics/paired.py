"""Two systems on the same images: the differences of their metrics, with 95 % intervals.

As in `intervals`, parts are drawn: the images of one source under one label. A part's difference is the share of its
images that one system has right less the share that the other has right, -1 to 1; the difference of a metric is a
weighted mean of them, with the metric's own weights.

1.  Each class has a mean and its variance, with the leverage correction that makes it unbiased for unequal weights
    (HC2; Bell & McCaffrey 2002, Survey Methodology 28:169-181). Classes are strata: their variances add up, and
    Satterthwaite's degrees of freedom (1946, doi:10.2307/3002019) go with the sum. So far it is Student's paired t
    for one class and Welch's t for two.
2.  If two systems agree on nearly every image, the few parts of a class may show no difference by luck, and t alone
    covers 77 to 91 %, 10 % at worst. So each class's variance is moderated: it counts one degree of freedom more,
    of the variance q^2 / 2 (the moderated t of Smyth 2004, doi:10.2202/1544-6115.1027), q being how far apart the
    systems are in a part that tells them apart, found over all classes. That is 1 if they differ nowhere, so no
    interval has zero width, and 1/2 is the variance if such parts are each other one and balanced.
3.  If one source has most of the images of its class, the difference is little more than that source's, whose spread
    cannot be seen: the above covers 65 % at worst. So the limits are those of a mean in which no part weighs more than
    `MOST` times the median part of its class, for any weights have the same expectation if sources are exchangeable;
    and they are widened to the difference itself.

Coverage in simulation is 96 to 99 % over designs, and 84 % at worst, if few sources tell the systems apart and all
favour one of them: ``python tests/benchmarks/paired_coverage.py --runs 2000``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from bloodcell.metrics.by_source import rows_by_part, sources_known
from bloodcell.metrics.intervals import TAIL, confusion_score
from bloodcell.metrics.parts import Floats, Parts, parts_of
from bloodcell.metrics.predictions import classes_of
from bloodcell.metrics.registry import Metric, Place, shown_in
from bloodcell.runtime.errors import BloodcellError

PRIOR = 1.0  # degrees of freedom that the prior variance of a class counts; by simulation
UNSEEN = 0.1  # parts of difference 1 that are added before q is found; by simulation
MOST = 4.0  # times the median weight of a class's parts that one part has at most in the limits; by simulation


@dataclass(frozen=True)
class Difference:
    """A metric of one system less that of another on the same images."""

    value: float  # -1 to 1
    low: float | None  # limit of the 95 % interval; None if sources are unknown or the metric is no mean over parts
    high: float | None
    images: int
    sources: int  # 0 if they are unknown


def paired_rows(
    one: pd.DataFrame, other: pd.DataFrame, trained_on: frozenset[str] = frozenset()
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return the rows of each part of `rows_by_part` in both predictions tables, in the same order.

    Raises:
        BloodcellError: The tables are of different images.
    """
    matched = _matched(one.reset_index(drop=True), other.reset_index(drop=True))
    parts = rows_by_part(one.reset_index(drop=True), trained_on)
    return {part: (rows, matched.loc[rows.index]) for part, rows in parts.items()}


def _matched(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the other table in the order of the one; a file may be in two sets, so all names count."""
    keys = [name for name in ("set", "split", "path", "label") if name in one and name in other]
    ordered = [table.sort_values(keys, kind="stable") for table in (one, other)]
    rows = [table[keys].fillna("").to_numpy().tolist() for table in ordered]
    if rows[0] != rows[1]:
        raise BloodcellError(
            f"the two predictions tables ({len(one):,} and {len(other):,} rows) are not of the same images and labels; "
            "compare two systems on the same data and splits"
        )
    return ordered[1].set_axis(ordered[0].index).sort_index()


def differences(
    one: pd.DataFrame, other: pd.DataFrame, trained_on: frozenset[str] = frozenset()
) -> dict[str, dict[str, Difference]]:
    """Return by part and metric how much better one system is than another.

    The tables may have the images in any order. If the sources of a part are not all known, there are the metrics that
    need none, without an interval.

    Raises:
        BloodcellError: The tables are of different images.
    """
    return {part: differences_of(*rows) for part, rows in paired_rows(one, other, trained_on).items()}


def differences_of(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Difference]:
    """Return the differences on one part, whose rows are the same images in the same order."""
    known = sources_known(one)
    found = {metric.name: _difference(metric, one, other, known) for metric in shown_in(Place.COMPARISON)}
    return {name: difference for name, difference in found.items() if difference}


def _difference(metric: Metric, one: pd.DataFrame, other: pd.DataFrame, known: bool) -> Difference | None:
    if known and metric.weights:
        parts, others = paired_parts(one, other)
        return mean_difference(parts, parts.correct - others.correct, *metric.weights(parts))
    if known and metric.score:
        values = [confusion_score(parts, metric.score) for parts in paired_parts(one, other)]
    elif metric.value:
        values = [metric.value(rows, classes_of(one)) for rows in (one, other)]
    else:
        return None
    return Difference(values[0] - values[1], None, None, len(one), one["source"].nunique() if known else 0)


def paired_parts(one: pd.DataFrame, other: pd.DataFrame) -> tuple[Parts, Parts]:
    """Return the parts as either system predicts them, from rows of the same images in the same order."""
    return parts_of(one), parts_of(other.assign(source=one["source"]))


def mean_difference(parts: Parts, apart: Floats, weight: Floats, share: Floats, prior: float = PRIOR) -> Difference:
    """Mean over the classes, weighed by `share`, (C,), of the means of the parts' differences.

    Args:
        parts: The parts.
        apart: Each part's difference, -1 to 1, (P,).
        weight: Of the parts within their class, (P,).
        share: Of the classes, (C,).
        prior: Degrees of freedom of the prior variance; 0: the plain t, which needs two parts in each class.
    """
    value, limits = _student(parts, apart, weight, share, prior)
    if (even := _evened(parts, weight)) is not weight:
        _, (low, high) = _student(parts, apart, even, share, prior)
        limits = min(low, value), max(high, value)
    return Difference(value, max(limits[0], -1.0), min(limits[1], 1.0), int(parts.images.sum()), parts.sources)


def _evened(parts: Parts, weight: Floats) -> Floats:
    """Return the weights of the parts, (P,), none of them more than `MOST` times the median of its class."""
    medians = np.array([np.median(weight[parts.label == c]) for c in range(len(parts.classes))])
    most = MOST * medians[parts.label]
    return np.minimum(weight, most) if (weight > most).any() else weight


def _student(
    parts: Parts, apart: Floats, weight: Floats, share: Floats, prior: float
) -> tuple[float, tuple[float, float]]:
    """Return the weighted mean and its limits by the moderated t; the arguments are those of `mean_difference`."""
    share = share / share.sum()
    weight = weight / parts.by_class(weight)[parts.label]
    mean = parts.by_class(weight * apart)
    value = float(share @ mean)
    moves = weight * (apart - mean[parts.label]) / np.sqrt(np.where(weight < 1, 1 - weight, 1.0))
    free = parts.by_class(np.ones(len(apart))) - 1
    expected = typical_difference(apart) ** 2 / 2 * parts.by_class(weight**2)
    variance = share**2 * (free * parts.by_class(moves**2) + prior * expected) / (free + prior)
    whole = variance.sum() + _shared_variance(parts, share[parts.label] * moves)
    freedom = variance.sum() ** 2 / (variance**2 / (free + prior)).sum() if whole else 1.0
    half = float(student.ppf(1 - TAIL, freedom) * np.sqrt(whole))
    return value, (value - half, value + half)


def typical_difference(apart: Floats) -> float:
    """Return how far apart two systems are in a part that tells them apart, above 0 to 1.

    It is the mean of the sizes of the parts' differences, (P,), each weighed by itself: parts without any do not count.
    """
    size = np.abs(apart)
    return float(((size**2).sum() + UNSEEN) / (size.sum() + UNSEEN))


def _shared_variance(parts: Parts, moves: Floats) -> float:
    """Return what sources under several labels add to the variance."""
    together = np.bincount(parts.source, moves)
    return max(float((together**2).sum() - (moves**2).sum()), 0.0)
