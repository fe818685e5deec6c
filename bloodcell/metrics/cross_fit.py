"""Promises and sets judged on images that had no part in choosing them.

A threshold that was chosen on some images looks better on them than it is. So it is chosen on validation and judged on
test, where validation is of other sources than training and test; else each fifth of the sources is judged by the
threshold of the other four (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from bloodcell.metrics.abstention import promise
from bloodcell.metrics.by_source import source_weights, sources_known, sources_of
from bloodcell.metrics.conformal import conformal_sets, conformal_threshold, coverage_by_source
from bloodcell.metrics.predictions import matrix_of

#: Error rates that are promised, and how often a set is to hold the true class.
RATES, LEVELS = (0.01, 0.02, 0.05, 0.10), (0.90, 0.95)
#: Parts of the sources in cross-fitting.
FOLDS = 5

Decision = Callable[[pd.DataFrame, pd.DataFrame], NDArray[np.bool_]]


@dataclass(frozen=True)
class Judging:
    """What is judged, and on what thresholds are chosen.

    Attributes:
        rows: What is judged, rows of a predictions table.
        chosen_on: Other rows on which thresholds are chosen; None: they are cross-fitted.
        how: Says so.
    """

    rows: pd.DataFrame
    chosen_on: pd.DataFrame | None
    how: str

    def held_out(self, decide: Decision) -> NDArray[np.bool_]:
        """Return what is decided of each row, by a threshold in whose choice its source had no part.

        Args:
            decide: Called with the rows to choose on and those to decide on, (n, ...) of the latter returned.
        """
        if self.chosen_on is not None:
            return decide(self.chosen_on, self.rows)
        groups = sources_of(self.rows)
        folds = GroupKFold(min(FOLDS, groups.nunique())).split(self.rows, groups=groups)
        parts = [(places, decide(self.rows.iloc[others], self.rows.iloc[places])) for others, places in folds]
        order = np.argsort(np.concatenate([places for places, _ in parts]))
        return np.asarray(np.concatenate([decided for _, decided in parts])[order])

    @property
    def threshold_rows(self) -> pd.DataFrame:
        """What a threshold for later use is chosen on."""
        return self.rows if self.chosen_on is None else self.chosen_on


def judging_of(parts: dict[str, pd.DataFrame], judged: str, trained_on: frozenset[str]) -> Judging | None:
    """Return how the named part can be judged honestly; None where it has a single source.

    Args:
        parts: Name -> rows, as `with_disjoint` returns them.
        judged: The part that is judged.
        trained_on: Sources of the training images.
    """
    rows = parts[judged]
    if sources_of(rows).nunique() < 2:
        return None
    val = parts.get("val")
    if judged == "val" or val is None or not _apart(val, rows, trained_on):
        return Judging(rows, None, f"cross-fitted: each of {FOLDS} groups of sources by the thresholds of the others")
    return Judging(rows, val, "chosen on the validation images, judged on these")


def _apart(one: pd.DataFrame, other: pd.DataFrame, trained_on: frozenset[str]) -> bool:
    """Say whether it is known that no source of the one rows is among those of the others or in training."""
    known = sources_known(one) and sources_known(other)
    return known and not one["source"].isin(trained_on | set(other["source"])).any()


@dataclass(frozen=True)
class Kept:
    """A promised error rate, and what became of it on images that had no part in choosing.

    Attributes:
        error_rate: Promised.
        threshold: The probability from which on images are answered; None where the rate cannot be promised.
        coverage: Share that is answered.
        risk: Share of errors among them; None where none is.
    """

    error_rate: float
    threshold: float | None
    coverage: float
    risk: float | None


def kept_promises(judging: Judging) -> list[Kept]:
    """Return what became of each of `RATES`."""
    return [_kept(judging, rate) for rate in RATES]


def _kept(judging: Judging, rate: float) -> Kept:
    chosen = promise(judging.threshold_rows, rate)
    answered = judging.held_out(lambda choose, judge: _answered(choose, judge, rate))
    if not (chosen.attained and answered.any()):
        return Kept(rate, None, 0.0, None)
    weights, wrong = source_weights(judging.rows), (judging.rows["label"] != judging.rows["prediction"]).to_numpy()
    coverage = round(float(weights[answered].sum()), 12)  # all is exactly 1
    return Kept(rate, chosen.threshold, coverage, float(weights[answered & wrong].sum()) / coverage)


def _answered(choose: pd.DataFrame, judge: pd.DataFrame, rate: float) -> NDArray[np.bool_]:
    chosen = promise(choose, rate)
    return np.asarray(matrix_of(judge).max(axis=1) >= chosen.threshold)


@dataclass(frozen=True)
class Sets:
    """Sets of classes that are to hold the true one so often.

    Attributes:
        level: How often.
        held: How often they did, every source counting one.
        size: Mean number of classes in a set.
        single: Share of the sets that name one class.
        several: Share of those that name more.
        empty: Share of those that name none.
    """

    level: float
    held: float
    size: float
    single: float
    several: float
    empty: float


def conformal_outcomes(judging: Judging) -> list[Sets]:
    """Return what became of each of `LEVELS`."""
    return [_outcome(judging, level) for level in LEVELS]


def _outcome(judging: Judging, level: float) -> Sets:
    def decide(choose: pd.DataFrame, judge: pd.DataFrame) -> NDArray[Any]:
        return conformal_sets(judge, conformal_threshold(choose, 1 - level))

    sets, weights = judging.held_out(decide), source_weights(judging.rows)
    sizes = sets.sum(axis=1)
    shares = [float(weights[chosen].sum()) for chosen in (sizes == 1, sizes > 1, sizes == 0)]
    return Sets(level, coverage_by_source(judging.rows, sets), float(weights @ sizes), *shares)
