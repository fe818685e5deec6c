"""Shares of the classes among cells whose class a classifier predicts with confusions known from held-out sources.

The classifier predicts the class j for a cell of class k with the rate P(j | k), so a cell is predicted as j with the
probability sum_k share_k P(j | k).

1.  The shares and rates of highest likelihood, given predicted cells and held-out sources, are found by expectation and
    maximisation: each predicted cell is divided among the classes in proportion to share times rate; shares and rates
    are those of the divided cells and the sources. No share is negative. Those that solve the linear equations may be,
    and are wild if two classes are often confused (the confusion matrix method in Saerens, Latinne & Decaestecker
    2002, doi:10.1162/089976602753284446; for two classes Rogan & Gladen 1978,
    doi:10.1093/oxfordjournals.aje.a112510).
2.  The interval of a share has the values that are not rejected: with any other shares and any rates, the likelihood is
    at least exp(-t^2 / 2) of the highest (profile likelihood; Venzon & Moolgavkar 1988, doi:10.2307/2347496). So the
    cells themselves tell which confusions are possible. t is Student's, with as many degrees of freedom as the class
    has sources and confirmed cells; with many it is 1.96.
3.  None of 10 sources is no proof, and few counts are not normal. So each limit has half a cell, half a source of the
    class and a quarter of one of another class more that point in its direction.
4.  No interval is shorter than Clopper and Pearson's for that share of so many cells, as if no class were confused.

A share may be one among some of the classes, e.g. the white cells. Then all classes have their place in the likelihood,
as each may be taken for any other, and it is the share among those that is asked for and given.

Coverage and width, beside those of others: ``python tests/benchmarks/differential_coverage.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t

from bloodcell.metrics.intervals import TAIL, class_limits
from bloodcell.metrics.parts import Floats, Indices

EXTRA = 0.5  # of a cell, and of a source of the class, that a limit adds in its direction; by simulation
EXTRA_OTHER = 0.25  # of a source of the other class that matters most; by simulation
TOLERANCE = 1e-4  # a step that adds less to the logarithm of the likelihood is the last
CYCLES = 200  # most steps
HALVINGS = 14  # of the distance in which a limit lies: to 0.0001
LITTLE = 1e-4  # of share or rate, so that the search can leave 0


class _Cases(NamedTuple):
    """D cases; the last axis is that of the cases, which is fast."""

    evidence: Floats  # independent sources by true class, a row, and predicted class, (K, K, D)
    predicted: Floats  # cells by predicted class whose true class is not known, (K, D)
    known: Floats  # cells by class whose true class is known, (K, D)
    pinned: Floats  # 1 for the class whose share is given, (K, D)
    group: Floats  # 1 for the classes among which it is that share, (K, D)
    value: Floats  # that share; 0 if there is none, (D,)

    def only(self, chosen: Indices) -> _Cases:
        return _Cases(*(np.ascontiguousarray(one[..., chosen]) for one in self))


def likely_shares(evidence: Floats, predicted: Floats, known: Floats) -> Floats:
    """Return the shares of highest likelihood, (D, K), each row with sum 1, of each of D slides.

    Args:
        evidence: Independent sources by true class, a row, and predicted class, (D, K, K); each class has some. With
            very many, the confusion rates are known for sure.
        predicted: Cells by predicted class, (D, K), of those whose true class is not known; they need not be whole.
        known: Cells by class, (D, K), of those whose true class is known; every slide has some cell.
    """
    cases = _cases(evidence, predicted, known, np.ones(predicted.T.shape))
    return np.ascontiguousarray(_search(_start(cases), cases, TOLERANCE * 1e-4)[0][:, 0].T)


def share_limits(
    evidence: Floats, predicted: Floats, known: Floats, tail: float = TAIL, among: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return the shares and the lower and upper limits of their 95 % intervals, each (D, K) and 0 to 1.

    Each interval is for its share alone. Those of all K shares hold together with 95 % or more if `tail`, the
    probability beyond each limit, is divided by K (Bonferroni). The row k of `among`, (K, K), is 1 for the classes
    among which the share of class k is, itself and at least one other; None: all. The other arguments are those of
    `likely_shares`; every slide has some cell whose class is not known.
    """
    among = np.ones((predicted.shape[1],) * 2) if among is None else among
    whole = likely_shares(evidence, predicted, known)
    part = np.where(among.all(1), 1.0, np.maximum(whole @ among.T, 1e-12))
    share = np.minimum(whole / part, 1.0)
    counting = class_limits(share, np.maximum((predicted + known).sum(1, keepdims=True) * part, 1.0), 1.0, tail)
    low, high = _profile_limits(evidence, whole, predicted, known, tail, among)
    return share, np.minimum(low, counting[0]), np.maximum(high, counting[1])


def _profile_limits(
    evidence: Floats, share: Floats, predicted: Floats, known: Floats, tail: float, among: Floats
) -> tuple[Floats, Floats]:
    """Return the limits by profile likelihood, (D, K)."""
    slides, classes = predicted.shape
    weight = share / evidence.sum(2)
    directed = [
        _directed(evidence, weight, predicted, chosen, upper, among[chosen])
        for upper in (False, True)
        for chosen in range(classes)
    ]
    cases = _cases(
        np.concatenate([one[0] for one in directed]),
        np.concatenate([one[1] for one in directed]),
        np.tile(known, (2 * classes, 1)),
        np.tile(np.repeat(among.T, slides, axis=1), 2),
    )
    pinned = np.tile(np.repeat(np.eye(classes), slides, axis=1), 2)
    state, best = _search(_start(cases), cases, TOLERANCE)
    inner = (state[:, 0] * pinned).sum(0) / (state[:, 0] * cases.group).sum(0)  # the limit lies between inner and outer
    outer = np.repeat([0.0, 1.0], slides * classes)
    freedom = np.tile((evidence.sum(2) + known).T.ravel(), 2)
    allowed = t.ppf(1 - tail, np.maximum(freedom, 1)) ** 2 / 2
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        given = cases._replace(pinned=pinned, value=middle)
        found, likelihood = _search(_loosened(state, given), given, TOLERANCE)
        likely = best - likelihood < allowed
        inner, outer = np.where(likely, middle, inner), np.where(likely, outer, middle)
        state = np.where(likely, found, state)
    low, high = outer.reshape(2, classes, slides).swapaxes(1, 2)
    return low, high


def _directed(
    evidence: Floats, weight: Floats, predicted: Floats, chosen: int, upper: bool, group: Floats
) -> tuple[Floats, Floats]:
    """Return sources, (D, K, K), and predicted cells, (D, K), with those that a limit adds in its direction.

    Sources are added to the chosen class, and of the others to the one whose sources have most `weight`, (D, K). In
    each of them would be too many, as with sums of Poisson counts of different weights (Fay & Feuer 1997, Statistics in
    Medicine 16:791-801). For a lower limit they are predicted as the chosen class, for an upper one as others. These
    are cells of the group, (K,), among which the share is.
    """
    classes = weight.shape[1]
    here = np.eye(classes)[chosen]
    heaviest = np.where(here, -1, weight).argmax(1)
    more = (EXTRA * here + EXTRA_OTHER * np.eye(classes)[heaviest])[:, :, None]
    others = group * (1 - here)
    to_sources, to_cells = (_divided(evidence, 1 - here), here) if upper else (here, _divided(predicted, others))
    return evidence + more * to_sources, predicted + EXTRA * to_cells


def _divided(counts: Floats, group: Floats) -> Floats:
    """Return how 1 is divided among the classes of a group, (..., K), in about the proportions of their counts."""
    weights = (counts + 1 / counts.shape[-1]) * group
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _cases(evidence: Floats, predicted: Floats, known: Floats, group: Floats) -> _Cases:
    sources, *cells = (np.ascontiguousarray(np.moveaxis(one, 0, -1)) for one in (evidence, predicted, known))
    return _Cases(sources, cells[0], cells[1], np.zeros(predicted.T.shape), group, np.zeros(len(predicted)))


def _start(cases: _Cases) -> Floats:
    """Return a first state, (K, 1 + K, D): shares and, beside that of each class, its rates."""
    cells = cases.predicted + cases.known
    return _loosened(np.concatenate([(cells / cells.sum(0))[:, None], cases.evidence], axis=1), cases)


def _loosened(state: Floats, cases: _Cases) -> Floats:
    """Return a state without a share or rate of 0, which the search could not leave."""
    rates = state[:, 1:] / state[:, 1:].sum(1, keepdims=True) + LITTLE
    return _state(state[:, 0] + LITTLE, rates, cases)


def _state(shares: Floats, rates: Floats, cases: _Cases) -> Floats:
    """Return the state of shares and rates, up to factors, in which the pinned shares have their values."""
    shares = shares + 1e-12
    inside, total = shares * cases.group, shares.sum(0)
    others = inside * (1 - cases.pinned)
    within = others / others.sum(0) * (1 - cases.value) + cases.pinned * cases.value
    shares = np.where(cases.group == 1, inside.sum(0) / total * within, shares / total)
    return np.concatenate([shares[:, None], rates / rates.sum(1, keepdims=True)], axis=1)


def _search(state: Floats, cases: _Cases, tolerance: float) -> tuple[Floats, Floats]:
    """Return the state of highest likelihood and the logarithm of the likelihood, (D,)."""
    state, likelihood = state.copy(), np.full(state.shape[-1], -np.inf)
    searched = np.arange(len(likelihood))
    for _ in range(CYCLES):
        state[..., searched], found = _accelerated(state[..., searched], cases.only(searched))
        gain, likelihood[searched] = found - likelihood[searched], found
        searched = searched[gain > tolerance]
        if not len(searched):
            break
    return state, likelihood


def _accelerated(state: Floats, cases: _Cases) -> tuple[Floats, Floats]:
    """Return the state after three iterations and an extrapolation, if it helps, and its log-likelihood, (D,).

    SQUAREM with the step length S3: Varadhan & Roland 2008, doi:10.1111/j.1467-9469.2007.00585.x.
    """
    first = _iterated(state, cases)
    second = _iterated(first, cases)
    step = first - state
    bend = second - first - step
    length = np.maximum(np.sqrt((step**2).sum((0, 1)) / np.maximum((bend**2).sum((0, 1)), 1e-300)), 1)
    ahead = np.maximum(state + 2 * length * step + length**2 * bend, 0.1 * second)  # stays inside the simplex
    third = _iterated(_state(ahead[:, 0], ahead[:, 1:], cases), cases)
    likelihoods = _log_likelihood(second, cases), _log_likelihood(third, cases)
    return np.where(likelihoods[1] >= likelihoods[0], third, second), np.maximum(*likelihoods)


def _iterated(state: Floats, cases: _Cases) -> Floats:
    """Return the state after one step of expectation and maximisation."""
    expected = np.einsum("kd,kjd->jd", state[:, 0], state[:, 1:])
    divided = state[:, :1] * state[:, 1:] * (cases.predicted / np.maximum(expected, 1e-300))
    return _state(divided.sum(1) + cases.known, divided + cases.evidence, cases)


def _log_likelihood(state: Floats, cases: _Cases) -> Floats:
    expected = np.einsum("kd,kjd->jd", state[:, 0], state[:, 1:])
    terms = ((cases.predicted, expected), (cases.known, state[:, 0]), (cases.evidence, state[:, 1:]))
    parts = (count * np.log(np.maximum(chance, 1e-300)) for count, chance in terms)
    return np.asarray(sum(part.reshape(-1, part.shape[-1]).sum(0) for part in parts))
