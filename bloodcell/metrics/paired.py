"""Two systems on the same images: the differences of their figures, with 95 % intervals.

As in `intervals`, what is drawn are the parts: the images of one source under one label. A part's difference is the
share of its images that one system has right less the share that the other has right, -1 to 1; a figure's difference
is a weighted mean of them, the weights being those of the figure.

1.  Each class has a mean and its variance, with the leverage correction that makes it unbiased for unequal weights
    (HC2; Bell & McCaffrey 2002, Survey Methodology 28:169-181). Classes are strata: their variances add up, and
    Satterthwaite's degrees of freedom (1946, doi:10.2307/3002019) go with the sum. So far it is Student's paired t
    for one class and Welch's t for two.
2.  Where two systems agree on nearly every image, the few parts of a class may show no difference by luck, and t alone
    covers 77 to 91 %, 10 % at worst. So each class's variance is moderated: it counts one degree of freedom more,
    of the variance q^2 / 2 (the moderated t of Smyth 2004, doi:10.2202/1544-6115.1027), where q is how far apart the
    systems are in a part that tells them apart, found over all classes. That is 1 where they differ nowhere, so no
    interval has zero width, and 1/2 is the variance where such parts are each other one and balanced.

Coverage in simulation is 97 to 99 % over designs, and 87 % at worst, where all differences favour one system in one
class: ``python tests/benchmarks/paired_coverage.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from bloodcell.metrics.by_source import sources_known, with_disjoint
from bloodcell.metrics.intervals import (
    TAIL,
    Floats,
    Parts,
    by_class_and_source,
    by_image,
    by_source,
    count_parts,
)
from bloodcell.runtime.errors import BloodcellError

#: Name -> weights of the parts and of the classes.
FIGURES: dict[str, Callable[[Parts], tuple[Floats, Floats]]] = {
    "accuracy": by_image,
    "accuracy_by_source": by_source,
    "macro_recall_by_source": by_class_and_source,
}

PRIOR = 1.0  # degrees of freedom that the prior variance of a class counts; by simulation
UNSEEN = 0.1  # parts of difference 1 that are added before q is found; by simulation


@dataclass(frozen=True)
class Difference:
    """A figure of one system less that of another on the same images.

    Attributes:
        value: -1 to 1.
        low: Lower limit of the 95 % interval; None where sources are unknown.
        high: Upper limit.
        images: Behind it.
        sources: Behind it; 0 where they are unknown.
    """

    value: float
    low: float | None
    high: float | None
    images: int
    sources: int


def differences(
    one: pd.DataFrame, other: pd.DataFrame, trained_on: frozenset[str] = frozenset()
) -> dict[str, dict[str, Difference]]:
    """Return by split and figure how much better one system is than another.

    Where the sources of a split are not all known, there is the accuracy by image alone, without an interval.

    Args:
        one: Predictions table of the one system.
        other: Predictions table of the other, of the same images in any order.
        trained_on: Sources of the training images, from which differences on unseen sources follow.

    Raises:
        BloodcellError: The tables are of different images.
    """
    parts = with_disjoint(beside(one, other), trained_on)
    return {split: differences_of(rows) for split, rows in parts.items()}


def beside(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the one table with the other's predictions in the column `other`.

    Raises:
        BloodcellError: The tables are of different images.
    """
    return one.assign(other=_matched(one, other))


def _matched(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Return the predictions of the other table in the order of the one.

    Images may be the same file in two sets, so what names a row is all that says what it is of.
    """
    keys = [name for name in ("set", "split", "path", "label") if name in one and name in other]
    orders = [table.reset_index(drop=True).sort_values(keys, kind="stable") for table in (one, other)]
    rows = [order[keys].fillna("").to_numpy().tolist() for order in orders]
    if rows[0] != rows[1]:
        raise BloodcellError(
            f"the two predictions tables ({len(one):,} and {len(other):,} rows) are not of the same images and labels; "
            "compare two systems on the same data and splits"
        )
    return list(pd.Series(orders[1]["prediction"].to_numpy(), index=orders[0].index).sort_index())


def differences_of(rows: pd.DataFrame) -> dict[str, Difference]:
    """Return the differences on the rows of one split, as `beside` returns them."""
    if not sources_known(rows):
        value = (rows["prediction"] == rows["label"]).mean() - (rows["other"] == rows["label"]).mean()
        return {"accuracy": Difference(float(value), None, None, len(rows), 0)}
    one, other = parts_beside(rows)
    apart = one.correct - other.correct
    return {name: mean_difference(one, apart, *weights(one)) for name, weights in FIGURES.items()}


def parts_beside(rows: pd.DataFrame) -> tuple[Parts, Parts]:
    """Return the parts as either system predicts them, of rows as `beside` returns them whose sources are known."""
    labels, sources = (rows[name].astype(str).tolist() for name in ("label", "source"))
    one, other = (count_parts(labels, rows[name].astype(str).tolist(), sources) for name in ("prediction", "other"))
    return one, other


def mean_difference(parts: Parts, apart: Floats, weight: Floats, share: Floats, prior: float = PRIOR) -> Difference:
    """Mean over the classes, weighed by `share`, (C,), of the means of the parts' differences.

    Args:
        parts: The parts.
        apart: Each part's difference, -1 to 1, (P,).
        weight: Of the parts within their class, (P,).
        share: Of the classes, (C,).
        prior: Degrees of freedom of the prior variance; 0: the plain t, which wants two parts in each class.
    """
    share = share / share.sum()
    weight = weight / parts.by_class(weight)[parts.label]
    mean = parts.by_class(weight * apart)
    value = float(share @ mean)
    moves = weight * (apart - mean[parts.label]) / np.sqrt(np.where(weight < 1, 1 - weight, 1.0))
    free = parts.by_class(np.ones(len(apart))) - 1
    expected = typical_difference(apart) ** 2 / 2 * parts.by_class(weight**2)
    variance = share**2 * (free * parts.by_class(moves**2) + prior * expected) / (free + prior)
    whole = variance.sum() + _tied(parts, share[parts.label] * moves)
    freedom = variance.sum() ** 2 / (variance**2 / (free + prior)).sum() if whole else 1.0
    half = float(student.ppf(1 - TAIL, freedom) * np.sqrt(whole))
    sources = len(np.unique(parts.source))
    return Difference(value, max(value - half, -1.0), min(value + half, 1.0), int(parts.images.sum()), sources)


def typical_difference(apart: Floats) -> float:
    """How far apart two systems are in a part that tells them apart, above 0 to 1, by the parts' differences, (P,).

    It is the mean of the differences' sizes, each weighed by itself, so that parts without any do not count.
    """
    size = np.abs(apart)
    return float(((size**2).sum() + UNSEEN) / (size.sum() + UNSEEN))


def _tied(parts: Parts, moves: Floats) -> float:
    """Return what sources under several labels add to the variance, by the moves of their parts, (P,)."""
    together = np.bincount(parts.source, moves)
    return max(float((together**2).sum() - (moves**2).sum()), 0.0)
