"""Shares of the classes among cells whose class a classifier predicts with known confusion rates.

The classifier predicts the class j for a cell of class k with the rate P(j | k), so a cell is predicted as j with the
probability sum_k share_k P(j | k).

1.  The shares of highest likelihood are found by expectation and maximisation: each predicted cell is divided among
    the classes in proportion to share times rate, and the shares are those of the divided cells. They are never
    negative. Those that solve the linear equations may be, and are wild if two classes are often confused (the
    confusion matrix method in Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446; for two classes
    Rogan & Gladen 1978, doi:10.1093/oxfordjournals.aje.a112510).
2.  The interval of a share redraws the cells and the confusions, each from the beta distribution whose quantiles are
    Clopper and Pearson's limits. For the upper limit, what raises the share is drawn from that of the upper limits
    (the cells predicted so, its cells missed) and what lowers it from that of the lower limits (other classes taken
    for it), and the reverse for the lower limit; the shares of highest likelihood of each draw have the limits as
    percentiles. That is melding (Fay, Proschan & Brittain 2015, doi:10.1111/biom.12231; for the sensitivity and
    specificity of a test Bayer, Fay & Graubard 2022, https://arxiv.org/abs/2205.13494), here with several classes.
3.  No interval is shorter than Clopper and Pearson's for that share of so many cells, as if no class were confused.

Coverage and width, beside those of others: ``python tests/benchmarks/differential_coverage.py``.
"""

from __future__ import annotations

import numpy as np

from bloodcell.metrics.intervals import TAIL, class_limits
from bloodcell.metrics.parts import Floats

DRAWS = 1000  # of cells and confusions, for each limit
EXTRA = 1.0  # sources of a class, and cells, that a limit adds in its direction: Clopper and Pearson's
TOLERANCE = 1e-6  # an iteration that moves no share by more ends the search
CYCLES = 100  # most accelerated steps, each of three iterations


def likely_shares(rates: Floats, predicted: Floats, known: Floats) -> Floats:
    """Return the shares of highest likelihood, (D, K), each row with sum 1, for each of D cases.

    Args:
        rates: Confusion rates, (D, K, K): those of each true class, a row, sum to 1.
        predicted: Cells by predicted class, (D, K), of those whose true class is not known; they need not be whole.
        known: Cells by class, (D, K), of those whose true class is known; every case has some cell.
    """
    rates, predicted, known = (np.moveaxis(one, 0, -1) for one in (rates, predicted, known))  # cases last: fast
    shares = known + predicted + (known + predicted).mean(0)  # no class starts from 0, which it could not leave
    shares = shares / shares.sum(0)
    searched = np.arange(shares.shape[-1])
    for _ in range(CYCLES):
        case = np.ascontiguousarray(rates[..., searched]), predicted[:, searched], known[:, searched]
        shares[:, searched], moved = _accelerated(shares[:, searched], *case)
        searched = searched[moved > TOLERANCE]
        if not len(searched):
            break
    return np.ascontiguousarray(shares.T)


def _accelerated(shares: Floats, *case: Floats) -> tuple[Floats, Floats]:
    """Return the shares after three iterations and an extrapolation, (K, D), and how far the last moved them, (D,).

    SQUAREM with the step length S3: Varadhan & Roland 2008, doi:10.1111/j.1467-9469.2007.00585.x.
    """
    first = _iterated(shares, *case)
    second = _iterated(first, *case)
    step = first - shares
    bend = second - first - step
    length = np.maximum(np.sqrt((step**2).sum(0) / np.maximum((bend**2).sum(0), 1e-300)), 1)
    ahead = np.maximum(shares + 2 * length * step + length**2 * bend, 0.1 * second)  # stays inside the simplex
    ahead /= ahead.sum(0)
    last = _iterated(ahead, *case)
    return last, np.abs(last - ahead).max(0)


def _iterated(shares: Floats, rates: Floats, predicted: Floats, known: Floats) -> Floats:
    """Return the shares, (K, D), after one iteration; cases are last: rates (K, K, D), predicted and known (K, D)."""
    expected = np.einsum("kd,kjd->jd", shares, rates)
    divided = known + shares * np.einsum("kjd,jd->kd", rates, predicted / np.maximum(expected, 1e-300))
    return divided / divided.sum(0)


def share_limits(
    evidence: Floats | None, predicted: Floats, known: Floats, draws: int = DRAWS
) -> tuple[Floats, Floats, Floats]:
    """Return the shares and the lower and upper limits of their 95 % intervals, each (K,) and 0 to 1.

    Args:
        evidence: Independent sources by true class, a row, and predicted class, (K, K), each class with some; None if
            the confusions are unknown. Then, and if every cell is known, the limits are those of counting alone.
        predicted: Cells by predicted class, (K,), of those whose true class is not known.
        known: Cells by class, (K,), of those whose true class is known; there is some cell.
        draws: Draws for each limit.
    """
    cells = float(predicted.sum() + known.sum())
    if evidence is None or not predicted.any():
        share = (predicted + known) / cells
        return share, *class_limits(share, np.array(cells), 1.0)
    rates = evidence / evidence.sum(1, keepdims=True)
    share = likely_shares(rates[None], predicted[None], known[None])[0]
    low, high = class_limits(share, np.array(cells), 1.0)
    weight = share / evidence.sum(1)
    drawn_low, drawn_high = _drawn_limits(evidence, weight, np.stack([predicted, known]), draws)
    return share, np.minimum(low, drawn_low), np.maximum(high, drawn_high)


def _drawn_limits(evidence: Floats, weight: Floats, cells: Floats, draws: int) -> tuple[Floats, Floats]:
    """Return the limits, (K,), of the redrawn cells, of which there are (2, K): predicted and known.

    `weight`, (K,), is what one source of a class counts in the slide.
    """
    rng, count = np.random.default_rng(0), len(evidence)
    sources = rng.standard_gamma(np.maximum(evidence, 1e-12), (draws, count, count))
    more_sources = rng.standard_gamma(EXTRA, (draws, count, 1))
    drawn = rng.standard_gamma(np.maximum(cells, 1e-12), (draws, 2, count))
    more_cells = rng.standard_gamma(EXTRA, (draws, 1))
    limits = np.empty((2, count))
    for chosen, upper in np.ndindex(count, 2):
        here = np.eye(count)[chosen]
        to_sources = _elsewhere(evidence, chosen) if upper else here
        rates = sources + more_sources * to_sources * _given_more(weight, chosen)[:, None]
        predicted = drawn[:, 0] + more_cells * (here if upper else _elsewhere(cells[0], chosen))
        shares = likely_shares(rates / rates.sum(-1, keepdims=True), predicted, drawn[:, 1])[:, chosen]
        limits[upper, chosen] = np.quantile(shares, 1 - TAIL if upper else TAIL)
    return limits[0], limits[1]


def _given_more(weight: Floats, chosen: int) -> Floats:
    """Return which classes, (K,), have a source more: the chosen one, and of the others that with the most weight.

    A source more in each of them would be too many, as with sums of Poisson counts of different weights (Fay & Feuer
    1997, doi:10.1002/(sici)1097-0258(19970415)16:7<791::aid-sim500>3.0.co;2-#).
    """
    here = np.arange(len(weight)) == chosen
    return np.asarray(here | (np.arange(len(weight)) == np.where(here, -1, weight).argmax()), float)


def _elsewhere(counts: Floats, chosen: int) -> Floats:
    """Return how a count of 1 is divided among the classes but one, (..., K), in about the proportions of counts."""
    weights = counts + 1 / counts.shape[-1]
    weights[..., chosen] = 0
    return np.asarray(weights / weights.sum(-1, keepdims=True))
