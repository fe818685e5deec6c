"""Differential count: the share of each class among the white cells of a slide, with a 95 % interval.

A human who counts 5 cells of 100 knows that the share in the blood is 2 to 11 %, whoever counts. A classifier that
errs adds an uncertainty of its own, and a bias: of 100 cells, 80 of which are neutrophils, 4 are called basophils if
5 % of neutrophils are taken for them. So shares are corrected by the confusions with cells held out, and their
intervals are as wide as cells and held-out sources are few; see `bloodcell.metrics.shares`.

Cells of classes that are no white cells have no share; they are told per 100 white cells. As each class may be taken
for any other, all are corrected together, and shares are then those among the white cells.

That holds if the slide is like those that were held out: same stain, same microscope, cells of a class as easy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.intervals import class_limits
from bloodcell.metrics.shares import share_limits
from bloodcell.metrics.white_cells import white_among
from bloodcell.runtime.errors import BloodcellError

#: Columns of the table of a differential count.
COLUMNS = ["class", "count", "share", "low", "high", "per_100", "per_100_low", "per_100_high"]
MANY = 1e3  # times as many cells: next to no error by counting


@dataclass(frozen=True)
class Cells:
    """Cells of a slide, counted; those that are left to a human are not among them."""

    classes: tuple[str, ...]  # (K,)
    predicted: tuple[int, ...]  # cells by predicted class of those that nobody has confirmed, (K,)
    confirmed: tuple[int, ...]  # cells by class of those that a human has confirmed, (K,)

    @property
    def counts(self) -> tuple[int, ...]:
        """Cells by class, predicted or confirmed, (K,)."""
        return tuple(map(sum, zip(self.predicted, self.confirmed, strict=True)))

    @property
    def white(self) -> int:
        """Number of white cells."""
        return int(white_among(self.classes) @ np.array(self.counts))

    @property
    def others(self) -> dict[str, int]:
        """Cells by class of the classes that are no white cells."""
        white = white_among(self.classes)
        return {name: count for name, count, one in zip(self.classes, self.counts, white, strict=True) if not one}


def count_cells(classes: Sequence[str], predicted: Sequence[str], confirmed: Sequence[str] = ()) -> Cells:
    """Count cells by class.

    Args:
        classes: Names of the classes, in the order of the result.
        predicted: Predicted class of each cell that nobody has confirmed.
        confirmed: True class of each cell that a human has confirmed, whatever was predicted.

    Raises:
        BloodcellError: There is no cell, or one of another class.
    """
    names = [str(name) for name in (*predicted, *confirmed)]
    if not names:
        raise BloodcellError("there is no cell to count; give a slide or field with white cells")
    if unknown := sorted(set(names) - set(classes)):
        raise BloodcellError(f"the class '{unknown[0]}' cannot be counted; the classes are {', '.join(classes)}")
    counted = [Counter(map(str, part)) for part in (predicted, confirmed)]
    return Cells(tuple(classes), *(tuple(part[name] for name in classes) for part in counted))


@dataclass(frozen=True)
class Share:
    """The share of one class among the white cells of the blood, and its 95 % interval."""

    name: str
    count: int  # cells predicted or confirmed so
    share: float  # 0 to 1, corrected by the confusion if it is known; all shares sum to 1
    low: float  # low <= share <= high
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PerWhite:
    """Cells of a class that are no white cells, per 100 white cells of the blood, and the 95 % interval."""

    name: str
    count: int  # cells predicted or confirmed so
    per_100: float  # at least 0, corrected as shares are; nothing bounds it
    low: float  # low <= per_100 <= high; high may be infinite
    high: float


@dataclass(frozen=True)
class Differential:
    """The differential count of a slide."""

    shares: tuple[Share, ...]  # a class of white cells each
    others: tuple[PerWhite, ...]  # the other classes
    cells: int  # white cells
    confirmed: int  # of them, those that a human has confirmed
    corrected: bool  # if not, the confusion is unknown: the classifier's errors are in no share and no interval

    def table(self) -> pd.DataFrame:
        """Return a row for each class, those that are no white cells at the end.

        Returns:
            Columns class, count, share, low and high of white cells, per_100, per_100_low and per_100_high of others;
            those that a class does not have are empty.
        """
        others = ({"class": one.name, "count": one.count, **_per_100(one)} for one in self.others)
        rows = [{"class": one.name} | {name: getattr(one, name) for name in COLUMNS[1:5]} for one in self.shares]
        return pd.DataFrame([*rows, *others], columns=COLUMNS)


def _per_100(one: PerWhite) -> dict[str, float]:
    return {"per_100": one.per_100, "per_100_low": one.low, "per_100_high": one.high}


def differential_of(cells: Cells, confusion: Confusion | None) -> Differential:
    """Return the differential count of some cells.

    The cells are a random sample of the slide, and those that are confirmed a random sample of them, or all of some
    predicted classes. The same counts have the same result, bit by bit.

    Args:
        cells: At least one white cell.
        confusion: Of the classifier that has predicted them. If it is None, shares and intervals are those of counting
            alone.

    Raises:
        BloodcellError: The confusion is that of other classes, or there is no white cell.
    """
    if not cells.white:
        raise BloodcellError("there is no white cell to count; a differential count is one of white cells")
    white = white_among(cells.classes)
    rows = list(zip(cells.classes, cells.counts, *_limits(cells, confusion, 1.0), strict=True))
    shares = tuple(Share(*row) for row, one in zip(rows, white, strict=True) if one)
    others = tuple(
        PerWhite(name, count, *map(_ratio, limits))
        for (name, count, *limits), one in zip(rows, white, strict=True)
        if not one
    )
    corrected = confusion is not None or not any(cells.predicted)
    return Differential(shares, others, cells.white, int(white @ np.array(cells.confirmed)), corrected)


def _ratio(share: float) -> float:
    """Return cells of a class per 100 white cells, given their share among these and themselves."""
    return 100 * share / (1 - share) if share < 1 else math.inf


def _limits(cells: Cells, confusion: Confusion | None, times: float) -> tuple[list[float], list[float], list[float]]:
    """Return shares and limits by class, if there were `times` as many cells that nobody has confirmed.

    That of a class is the share among white cells and the class itself.
    """
    if confusion is not None and confusion.classes != cells.classes:
        raise BloodcellError(
            f"the cells are of the classes {', '.join(cells.classes)}, the confusion of {', '.join(confusion.classes)};"
            " give the confusion of the model that predicted them"
        )
    predicted, known = times * np.array(cells.predicted, float), np.array(cells.confirmed, float)
    among = np.maximum(white_among(cells.classes), np.eye(len(cells.classes)))
    alone = among.sum(1) == 1  # the only class of white cells has all of them
    if confusion is None or not predicted.any():
        part = among @ (predicted + known)
        share = (predicted + known) / part
        low, high = class_limits(share, part, 1.0)
    else:
        whole = np.where(alone[:, None], 1.0, among)
        found = share_limits(confusion.evidence[None], predicted[None], known[None], among=whole)
        share, low, high = (one[0] for one in found)
    share, low, high = (np.where(alone, 1.0, one).tolist() for one in (share, low, high))
    return share, low, high


def cells_needed(cells: Cells, confusion: Confusion | None, name: str, half_width: float = 0.05) -> int | None:
    """Return about how many more white cells narrow the interval of a class of them to +- `half_width`, above 0.

    They are cells like those at hand, and nobody confirms them. It is None if no number of cells does so, as the
    confusion is not known well enough: then only more held-out sources help, or a human.
    """
    if not any(cells.predicted):
        cells, confusion = Cells(cells.classes, cells.confirmed, cells.predicted), None
    place = cells.classes.index(name)

    def half(times: float) -> float:
        _, low, high = _limits(cells, confusion, times)
        return (high[place] - low[place]) / 2

    now = half(1.0)
    if now <= half_width:
        return 0
    least = half(MANY)
    if least >= half_width:
        return None
    # the squares of the parts of the width by confusion and by counting add up; the latter is as 1 / cells
    return math.ceil(cells.white * ((now**2 - least**2) / (half_width**2 - least**2) - 1))
