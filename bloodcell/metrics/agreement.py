"""Agreement between two readers: Cohen's kappa with its interval.

Cohen 1960, "A coefficient of agreement for nominal scales" (doi:10.1177/001316446002000104). The interval is that of
`bloodcell.metrics.intervals.confusion_estimate`, so that readers who always agree have one, too; the bootstrap's would
have no width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloodcell.metrics.intervals import Estimate, confusion_estimate
from bloodcell.metrics.parts import Floats, count_parts


def kappa(first: Sequence[str], second: Sequence[str]) -> Estimate | None:
    """Return Cohen's kappa of two readers' labels of the same N cells with its 95 % interval.

    It is 1 if they always agree, and 0 if no more often than by chance. Cells are taken as independent of one another.
    None: there is no cell, or both readers gave all cells one and the same label, for which kappa is not defined.

    Args:
        first: Labels of a reader, (N,).
        second: Those of the other.
    """
    if len({*first, *second}) < 2:
        return None
    parts = count_parts(first, second, [str(number) for number in range(len(first))])
    return confusion_estimate(parts, _kappa, lowest=-1.0)


def _kappa(rows: Floats, held: Floats) -> float:
    """Return kappa of row-normalised confusions (C, C + 1) and the number of cells in each row, (C,)."""
    shares = rows * (held / held.sum())[:, None]
    agreed = float(np.trace(shares[:, :-1]))
    chance = float(shares.sum(axis=1) @ shares[:, :-1].sum(axis=0))
    return (agreed - chance) / (1 - chance) if chance < 1 else 1.0
