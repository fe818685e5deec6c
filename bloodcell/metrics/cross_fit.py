"""Error rates and conformal sets on images that had no part in choosing the thresholds.

A threshold looks better than it is on the images that it was chosen on. So it is chosen on validation and evaluated on
test, if validation has other sources than training and test; else each fifth of the sources is evaluated with the
threshold of the other four (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from bloodcell.metrics.abstention import Promise, promise, with_outcome
from bloodcell.metrics.by_source import source_weights, sources_known, sources_of
from bloodcell.metrics.conformal import class_thresholds, conformal_sets, conformal_threshold, coverage_by_source
from bloodcell.metrics.predictions import classes_of, matrix_of

#: Error rates that are promised, and how often a conformal set is to contain the true class.
RATES, LEVELS = (0.01, 0.02, 0.05, 0.10), (0.90, 0.95)
#: Groups of sources in cross-fitting.
FOLDS = 5

#: Called with the rows to choose a threshold on and n rows to decide on; returns the decisions, (n, ...).
Decision = Callable[[pd.DataFrame, pd.DataFrame], NDArray[np.bool_]]


@dataclass(frozen=True)
class ThresholdTest:
    """What thresholds are tested on, and what they are chosen on."""

    rows: pd.DataFrame  # of a predictions table, that thresholds are tested on
    chosen_on: pd.DataFrame | None  # other rows, that thresholds are chosen on; None: cross-fitting
    how: str  # the same in words
    compared: int = 1  # classifiers among which the images that thresholds are chosen on chose this one

    def decisions(self, decide: Decision) -> NDArray[np.bool_]:
        """Return the decision for each row, with a threshold that was chosen without its source."""
        if self.chosen_on is not None:
            return decide(self.chosen_on, self.rows)
        groups = sources_of(self.rows)
        folds = GroupKFold(min(FOLDS, groups.nunique())).split(self.rows, groups=groups)
        parts = [(places, decide(self.rows.iloc[others], self.rows.iloc[places])) for others, places in folds]
        order = np.argsort(np.concatenate([places for places, _ in parts]))
        return np.asarray(np.concatenate([decided for _, decided in parts])[order])

    @property
    def threshold_rows(self) -> pd.DataFrame:
        """The rows that a threshold for later use is chosen on."""
        return self.rows if self.chosen_on is None else self.chosen_on


def threshold_test(
    parts: dict[str, pd.DataFrame], tested: str, trained_on: frozenset[str], compared: int = 1
) -> ThresholdTest | None:
    """Return how thresholds can be tested on a part of `rows_by_part`; None if it has a single source.

    `compared` is the number of classifiers among which the validation part chose this one.
    """
    rows, val = parts[tested], parts.get("val")
    if sources_of(rows).nunique() < 2:
        return None
    if tested == "val" or val is None or not _apart(val, rows, trained_on):
        how = f"cross-fitted: each of {FOLDS} groups of sources with the thresholds of the others"
        seen, chosen_on = compared if tested == "val" else 1, None
    else:
        how, seen, chosen_on = "chosen on the validation images, tested on these", compared, val
    if seen > 1:
        how += f"; validation also chose the classifier among {seen:,}, so that less is promised"
    return ThresholdTest(rows, chosen_on, how, seen)


def _apart(one: pd.DataFrame, other: pd.DataFrame, trained_on: frozenset[str]) -> bool:
    """Return whether the sources are known, and none of the one rows is in the others or in training."""
    known = sources_known(one) and sources_known(other)
    return known and not one["source"].isin(trained_on | set(other["source"])).any()


def promise_results(test: ThresholdTest) -> list[Promise]:
    """Return the promise of each of `RATES`, with coverage and risk in the test."""
    return [_promise_result(test, rate) for rate in RATES]


def _promise_result(test: ThresholdTest, rate: float) -> Promise:
    def decide(choose: pd.DataFrame, rows: pd.DataFrame) -> NDArray[np.bool_]:
        return np.asarray(matrix_of(rows).max(axis=1) >= promise(choose, rate, test.compared).threshold)

    made, answered = promise(test.threshold_rows, rate, test.compared), test.decisions(decide)
    return with_outcome(made, test.rows, answered) if made.attained and answered.any() else _none_of(made)


def _none_of(made: Promise) -> Promise:
    return replace(made, threshold=np.inf, coverage=0.0, risk=np.nan)


@dataclass(frozen=True)
class SetResult:
    """Conformal sets at one level; all sources weigh the same."""

    level: float  # how often a set is to contain the true class
    each_class: bool  # whether that is promised in each class, by a threshold of its own; else over all images
    coverage: float  # how often it did
    size: float  # mean number of classes in a set
    single: float  # share of the sets with one class
    several: float  # share of the sets with more
    empty: float  # share of the sets with none
    by_class: dict[str, float]  # the coverage of each class's images; NaN if it has none


def set_results(test: ThresholdTest) -> list[SetResult]:
    """Return the result of each of `LEVELS`, first over all images, then in each class."""
    return [_set_result(test, level, each_class) for each_class in (False, True) for level in LEVELS]


def _set_result(test: ThresholdTest, level: float, each_class: bool) -> SetResult:
    threshold = class_thresholds if each_class else conformal_threshold
    sets = test.decisions(lambda choose, rows: conformal_sets(rows, threshold(choose, 1 - level)))
    weights, sizes = source_weights(test.rows), sets.sum(axis=1)
    single, several, empty = (float(weights[chosen].sum()) for chosen in (sizes == 1, sizes > 1, sizes == 0))
    of_class = {name: (test.rows["label"] == name).to_numpy() for name in classes_of(test.rows)}
    by_class = {name: coverage_by_source(test.rows[own], sets[own]) for name, own in of_class.items()}
    coverage = coverage_by_source(test.rows, sets)
    return SetResult(level, each_class, coverage, float(weights @ sizes), single, several, empty, by_class)
