"""Answering only if the classifier is sure, with a promise about the errors; the rest goes to a human.

The risk is the share of errors among the answers; all sources weigh the same. A promise is made for future sources,
from few sources with many copies of each:

1.  From each source one image is drawn, so that the drawn images are independent however alike the copies are (single
    subsampling: Dunn, Wasserman & Ramdas 2022, doi:10.1080/01621459.2022.2060112).
2.  Candidates are the thresholds with 100, 90, 81, ... % of the drawn images above them. Given a threshold, the errors
    above it are binomial, so an exact test tells whether the risk may be above the asked rate (Clopper & Pearson's, as
    in Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500).
3.  Every candidate is tested at an equal share of 1 - CONFIDENCE (learn then test, by Bonferroni: Angelopoulos et al.
    2021, https://arxiv.org/abs/2110.01052). Those that even a faultless classifier could not pass are not counted:
    which they are depends on the number of sources alone.

4.  If the classifier was chosen among several by the same sources, such as the best of 15 epochs, every candidate of
    every one counts (Bonferroni again): the chosen one looks better on these sources than it is.

So with probability CONFIDENCE over the sources at hand, the risk over all sources is at most the rate, at any number
of sources and for any classifier, if sources at hand and future ones are drawn alike. Simulations of how often that is
kept: ``python tests/benchmarks/promises_after_choice.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from bloodcell.metrics.by_source import source_weights, sources_of
from bloodcell.metrics.predictions import matrix_of
from bloodcell.runtime.errors import BloodcellError

#: Probability with which a promise is kept.
CONFIDENCE = 0.9
#: Each candidate threshold answers this share of what the one before it answers.
STEP = 0.9
SEED = 0

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Promise:
    """A confidence from which images are answered with at most `error_rate` errors, also of future sources."""

    error_rate: float  # the most errors, 0 to 1
    threshold: float = np.inf  # images of this confidence or more are answered; infinite: the rate cannot be promised
    coverage: float = 0.0  # share of the images at hand that are answered
    risk: float = np.nan  # share of errors among these; NaN if none is answered
    sources: int = 0  # that the threshold was chosen on
    needed: int = 0  # sources that the promise takes at least, all of them right

    @property
    def attained(self) -> bool:
        """Whether the rate can be promised."""
        return self.threshold < np.inf

    @property
    def obstacle(self) -> str:
        """Why the rate cannot be promised, given that it cannot."""
        if self.sources < self.needed:
            return f"that takes {self.needed:,} sources without an error, and there are {self.sources:,}"
        return f"that takes fewer errors, or more than these {self.sources:,} sources"


def risk_coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Return coverage and risk of rows of a predictions table at each threshold; all sources weigh the same.

    Returns:
        Columns threshold (each confidence that occurs, falling), coverage (share of images at or above it) and risk
        (share of errors among them), both 0 to 1.
    """
    weight = source_weights(rows)
    images = pd.DataFrame(
        {"threshold": matrix_of(rows).max(axis=1), "coverage": weight, "wrong": weight * _wrong(rows)}
    )
    answered = images.groupby("threshold").sum().sort_index(ascending=False).cumsum()
    risk = answered.pop("wrong") / answered["coverage"]
    return answered.assign(risk=risk).clip(upper=1.0).reset_index()


def _wrong(rows: pd.DataFrame) -> Flags:
    return np.asarray(rows["label"] != rows["prediction"])


def promise(rows: pd.DataFrame, error_rate: float, compared: int = 1) -> Promise:
    """Return the promise of an error rate with the lowest threshold, chosen on images that no training has seen.

    `compared` is the number of classifiers, at least 1, among which these images chose this one.

    Raises:
        BloodcellError: The rate is not between 0 and 1.
    """
    if not 0 < error_rate < 1:
        raise BloodcellError(f"an error rate of {error_rate} cannot be promised; give a share, e.g. 0.02 for 2 %")
    sources, needed = sources_of(rows).nunique(), least_sources(error_rate, compared)
    made = Promise(error_rate, _threshold(rows, error_rate, compared), sources=sources, needed=needed)
    return with_outcome(made, rows, matrix_of(rows).max(axis=1) >= made.threshold)


def least_sources(error_rate: float, compared: int = 1) -> int:
    """Return how many sources a promise takes if the answer is right for each; with errors it takes more.

    With one classifier that is 230 for 1 %, 114 for 2 %, 45 for 5 % and 22 for 10 %. The arguments are those of
    `promise`.
    """
    return math.ceil(math.log((1 - CONFIDENCE) / compared) / math.log(1 - error_rate))


def joint_confidence(promises: int) -> float:
    """Return the least probability, 0 to 1, with which all of several promises on the same sources are kept.

    Each by itself is kept with `CONFIDENCE`; at worst, their failures exclude one another (Bonferroni).
    """
    return max(0.0, 1 - promises * (1 - CONFIDENCE))


def with_outcome(made: Promise, rows: pd.DataFrame, answered: Flags) -> Promise:
    """Return a promise with its coverage and risk on some rows; `answered`, (N,), marks those that are answered."""
    weight = source_weights(rows)
    coverage = round(float(weight[answered].sum()), 12)  # all is exactly 1
    risk = float(weight[answered & _wrong(rows)].sum()) / coverage if coverage else np.nan
    return replace(made, coverage=coverage, risk=risk)


def _threshold(rows: pd.DataFrame, error_rate: float, compared: int) -> float:
    """Return the lowest candidate that passes its test; infinity if none does."""
    drawn = one_per_source(rows)
    confidence, wrong = matrix_of(drawn).max(axis=1), _wrong(drawn)
    falling = np.sort(confidence)[::-1]
    ranks = candidate_ranks(len(drawn), error_rate, compared)
    for rank in ranks:
        # just above the next confidence: a drawn image that sets the threshold must not be among those tested
        threshold = float(np.nextafter(falling[rank], np.inf)) if rank < len(drawn) else 0.0
        above = confidence >= threshold
        if binom.cdf(wrong[above].sum(), above.sum(), error_rate) <= (1 - CONFIDENCE) / compared / len(ranks):
            return threshold
    return float("inf")


def one_per_source(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row of each source, drawn by seed, whatever the order of the rows."""
    ordered = rows.assign(of=sources_of(rows)).sort_values("path", kind="stable")
    return ordered.sample(frac=1, random_state=SEED).drop_duplicates("of")


def candidate_ranks(sources: int, error_rate: float, compared: int = 1) -> list[int]:
    """Return how many of the drawn images each candidate answers, falling; none if there are too few to prove it."""
    ranks: list[int] = []
    while (rank := round(sources * STEP ** len(ranks))) not in ranks:
        if (1 - error_rate) ** rank > (1 - CONFIDENCE) / compared / (len(ranks) + 1):
            break
        ranks.append(rank)
    return ranks
