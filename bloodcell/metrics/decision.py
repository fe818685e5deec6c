"""Decision curves: what it is worth to act on the probability of a class, at every price of a false alarm.

Whoever acts from a probability t on takes 1 right action to be worth (1 - t) / t false alarms. The net benefit is the
share of right actions less that of false alarms, weighed by t / (1 - t) (Vickers & Elkin 2006,
doi:10.1177/0272989X06295361). Acting on no image has 0; acting on all has what `everyone` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import source_weights
from bloodcell.metrics.parts import Floats
from bloodcell.metrics.predictions import PROBABILITY

#: Thresholds of a curve.
THRESHOLDS = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of one class against all others by threshold, (T,); all sources weigh the same."""

    thresholds: Floats  # 0.01 to 0.99
    benefit: Floats  # of acting on the images whose probability is at or above the threshold; at most the class's share
    everyone: Floats  # of acting on all images


def decision_curve(rows: pd.DataFrame, name: str, thresholds: Floats = THRESHOLDS) -> DecisionCurve:
    """Return the decision curve of a class in rows of a predictions table; thresholds lie between 0 and 1."""
    weight, true = source_weights(rows), (rows["label"] == name).to_numpy()
    order = np.argsort(rows[PROBABILITY + name].to_numpy(), kind="stable")
    below = np.searchsorted(rows[PROBABILITY + name].to_numpy()[order], thresholds, side="left")
    right, wrong = (np.append(np.cumsum((weight * chosen)[order][::-1])[::-1], 0.0)[below] for chosen in (true, ~true))
    price, share = thresholds / (1 - thresholds), float(weight[true].sum())
    return DecisionCurve(thresholds, right - price * wrong, share - price * (1 - share))
