"""Agreement between two readers: Cohen's kappa with its interval.

Cohen 1960, "A coefficient of agreement for nominal scales" (doi:10.1177/001316446002000104). The interval is that of
`bloodcell.metrics.intervals.confusion_estimate`, so that readers who always agree have one, too; the bootstrap's would
have no width. Cells of one slide are alike, so it is at least as wide as the jackknife over slides says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloodcell.metrics.intervals import Estimate, confusion_estimate
from bloodcell.metrics.parts import Floats, count_parts


def kappa(first: Sequence[str], second: Sequence[str], slides: Sequence[str] | None = None) -> Estimate | None:
    """Return Cohen's kappa of two readers' labels of the same N cells with its 95 % interval.

    It is 1 if they always agree, 0 if no more often than by chance. None: there is no cell, or both readers gave all
    cells one and the same label, for which kappa is not defined.

    Args:
        first: Labels of a reader, (N,).
        second: Those of the other.
        slides: The slide of each cell, (N,); None or one slide: cells are taken as independent of one another.
    """
    if len({*first, *second}) < 2:
        return None
    parts = count_parts(first, second, [str(number) for number in range(len(first))])
    found = confusion_estimate(parts, _kappa, lowest=-1.0)
    if slides is None or (known := len(set(slides))) < 2:
        return found
    away = _over_slides(first, second, slides)
    low, high = min(found.low, found.value - away), max(found.high, found.value + away)
    return Estimate(found.value, max(low, -1.0), min(high, 1.0), known)


def _over_slides(first: Sequence[str], second: Sequence[str], slides: Sequence[str]) -> float:
    """Return half the width of the 95 % interval of kappa by the jackknife that leaves out one slide at a time."""
    from scipy.stats import t

    labels = sorted({*first, *second})
    names, slide = np.unique(np.asarray(slides, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), len(labels), len(labels)))
    np.add.at(counts, (slide, *(np.searchsorted(labels, list(one)) for one in (first, second))), 1.0)
    without = np.array([_of_counts(counts.sum(axis=0) - one) for one in counts])
    variance = (len(names) - 1) * float(np.mean((without - without.mean()) ** 2))
    return float(t.ppf(0.975, len(names) - 1) * np.sqrt(variance))


def _of_counts(counts: Floats) -> float:
    """Return kappa of the cells by both labels, (C, C); 0 if it is not defined."""
    cells = float(counts.sum())
    chance = float(counts.sum(axis=1) @ counts.sum(axis=0)) / max(cells, 1) ** 2
    return (float(np.trace(counts)) / cells - chance) / (1 - chance) if cells and chance < 1 else 0.0


def _kappa(rows: Floats, held: Floats) -> float:
    """Return kappa of row-normalised confusions (C, C + 1) and the number of cells in each row, (C,)."""
    shares = rows * (held / held.sum())[:, None]
    agreed = float(np.trace(shares[:, :-1]))
    chance = float(shares.sum(axis=1) @ shares[:, :-1].sum(axis=0))
    return (agreed - chance) / (1 - chance) if chance < 1 else 1.0
