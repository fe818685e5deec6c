"""Answering only where the classifier is sure, and what can be promised of the answers.

What is not answered goes to a human. The risk is the share of errors among the answers; every source counts one.

A promise is made for sources that are yet to come, from few sources with many copies of each:

1.  From each source one image is drawn, so that what is drawn is independent however alike the copies are (single
    subsampling: Dunn, Wasserman & Ramdas 2022, doi:10.1080/01621459.2022.2060112). The draw is by seed.
2.  Candidates are the thresholds that just leave 100, 90, 81, ... % of the drawn images above them. Given a threshold,
    the errors above it are binomial, so an exact test says whether the risk may be above the rate that is asked for
    (Clopper & Pearson's, as Geifman & El-Yaniv 2017 select, https://arxiv.org/abs/1705.08500).
3.  Every candidate is tested at an equal share of 1 - CONFIDENCE (learn then test, by Bonferroni: Angelopoulos et al.
    2021, https://arxiv.org/abs/2110.01052). Those that even a faultless classifier could not pass are not counted:
    which they are depends on the number of sources alone.

So with probability CONFIDENCE, over the sources that were at hand, the risk over all sources is at most the rate. That
holds at any number of sources, whatever the classifier; sources must be drawn alike, those at hand and those to come.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Promise:
    """A threshold from which on images are answered with at most `error_rate` errors, of sources to come, too.

    Attributes:
        error_rate: The most that is promised, 0 to 1.
        threshold: Images of this highest probability or more are answered; infinite where the rate is not attained.
        coverage: Share of the images at hand that are answered, every source counting one.
        risk: Share of errors among these, not larger than what is promised; NaN where none is answered.
        attained: Some threshold is known to attain the rate.
    """

    error_rate: float
    threshold: float
    coverage: float
    risk: float
    attained: bool


def risk_coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many are answered and how many of those are wrong, by threshold, every source counting one.

    Args:
        rows: Rows of a predictions table.

    Returns:
        Columns threshold (highest probability, falling; a row for each that occurs), coverage (share of images at or
        above it) and risk (share of errors among them), both 0 to 1.
    """
    weight = source_weights(rows)
    images = pd.DataFrame(
        {"threshold": matrix_of(rows).max(axis=1), "coverage": weight, "wrong": weight * _wrong(rows)}
    )
    answered = images.groupby("threshold").sum().sort_index(ascending=False).cumsum()
    risk = answered.pop("wrong") / answered["coverage"]
    return answered.assign(risk=risk).clip(upper=1.0).reset_index()


def _wrong(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(rows["label"] != rows["prediction"])


def promise(rows: pd.DataFrame, error_rate: float) -> Promise:
    """Return the lowest threshold of which at most so many errors can be promised, as the module says.

    Args:
        rows: Rows of a predictions table on which the threshold is chosen: images that no training has seen.
        error_rate: The most that is promised, between 0 and 1.

    Raises:
        BloodcellError: The rate is no such number.
    """
    if not 0 < error_rate < 1:
        raise BloodcellError(f"an error rate of {error_rate} cannot be promised; give a share, e.g. 0.02 for 2 %")
    threshold = _threshold(rows, error_rate)
    answered = matrix_of(rows).max(axis=1) >= threshold
    weight = source_weights(rows)[answered]
    coverage = round(float(weight.sum()), 12)  # all is exactly 1
    risk = float(weight @ _wrong(rows)[answered]) / coverage if coverage else float("nan")
    return Promise(error_rate, threshold, coverage, risk, threshold < np.inf)


def _threshold(rows: pd.DataFrame, error_rate: float) -> float:
    """Return the lowest candidate that passes its test; infinity where none does."""
    drawn = one_per_source(rows)
    confidence, wrong = matrix_of(drawn).max(axis=1), _wrong(drawn)
    falling = np.sort(confidence)[::-1]
    ranks = candidate_ranks(len(drawn), error_rate)
    for rank in ranks:
        # what lies above the next confidence: a threshold that is drawn has no part in what is tested above it
        threshold = float(np.nextafter(falling[rank], np.inf)) if rank < len(drawn) else 0.0
        above = confidence >= threshold
        if binom.cdf(wrong[above].sum(), above.sum(), error_rate) <= (1 - CONFIDENCE) / len(ranks):
            return threshold
    return float("inf")


def one_per_source(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row of each source, drawn by seed, whatever the order of the rows; an unknown source is an image."""
    ordered = rows.assign(of=sources_of(rows)).sort_values("path", kind="stable")
    return ordered.sample(frac=1, random_state=SEED).drop_duplicates("of")


def candidate_ranks(sources: int, error_rate: float) -> list[int]:
    """Return how many of the drawn images each candidate answers, falling; none where so few can prove nothing."""
    ranks: list[int] = []
    while (rank := round(sources * STEP ** len(ranks))) not in ranks:
        if (1 - error_rate) ** rank > (1 - CONFIDENCE) / (len(ranks) + 1):
            break
        ranks.append(rank)
    return ranks
