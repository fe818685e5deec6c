"""Whether a probability means what it says, and the one number that mends most of it: the temperature.

Guo et al. 2017, "On calibration of modern neural networks" (https://arxiv.org/abs/1706.04599): logits are divided by a
temperature that makes the validation labels most likely. The order of the classes stays, and with it every prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.intervals import accuracy_by_image
from bloodcell.metrics.predictions import PROBABILITY, classes_of, matrix_of, splits_of

Floats = np.ndarray[Any, np.dtype[np.float64]]

#: A temperature is sought between these.
LEAST, MOST = 0.05, 20.0
#: The logarithm of a probability of 0 is taken as that of the smallest number.
TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class Reliability:
    """How often a classifier is right where it is so sure: arrays (bins,) of the bins that have an image.

    Attributes:
        confidence: Mean of the highest probability.
        accuracy: Share of the images that are right.
        low: Lower limit of the accuracy's 95 % interval; NaN where sources are unknown.
        high: Upper limit.
        share: Of all images.
        ece: Expected calibration error: the mean distance of confidence and accuracy, each bin by its share.
        brier: Mean over the images of the sum over the classes of the squared distances to the truth, 0 to 2.
    """

    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    share: Floats
    ece: float
    brier: float


def reliability(rows: pd.DataFrame, bins: int = 15) -> Reliability:
    """Compare confidence and accuracy in bins of the highest probability, all equally wide.

    Args:
        rows: Rows of a predictions table, those of one split; one at least.
        bins: Into how many parts 0 to 1 is cut. A bin has its lower edge, and 1 a bin of its own, as in torchmetrics.
    """
    probabilities = matrix_of(rows)
    top, right = probabilities.max(axis=1), (rows["label"] == rows["prediction"]).to_numpy()
    number = np.digitize(top, np.linspace(0, 1, bins + 1))
    chosen = [number == one for one in np.unique(number)]
    confidence, accuracy = (np.array([values[one].mean() for one in chosen]) for values in (top, right))
    low, high = np.array([_limits(rows[one]) for one in chosen]).T
    share = np.array([one.mean() for one in chosen])
    truth = np.array(classes_of(rows)) == rows["label"].to_numpy(dtype=str)[:, None]
    brier = ((probabilities - truth) ** 2).sum(axis=1).mean()
    ece = (share * np.abs(accuracy - confidence)).sum()
    return Reliability(confidence, accuracy, low, high, share, float(ece), float(brier))


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the accuracy's 95 % interval."""
    if not sources_known(rows):
        return np.nan, np.nan
    estimate = accuracy_by_image(*(rows[name].astype(str).tolist() for name in ("label", "prediction", "source")))
    return estimate.low, estimate.high


def calibration_of(predictions: pd.DataFrame) -> dict[str, float]:
    """Return `SPLIT/ece` and `SPLIT/brier` of every part of `splits_of`; see `Reliability`."""
    figures: dict[str, float] = {}
    for split, rows in splits_of(predictions).items():
        found = reliability(rows)
        figures |= {f"{split}/ece": found.ece, f"{split}/brier": found.brier}
    return figures


def fit_temperature(rows: pd.DataFrame) -> float:
    """Return the temperature, `LEAST` to `MOST`, that makes the labels most likely.

    Every source counts one, every image where sources are unknown. The likelihood has one peak, as its logarithm is
    concave in 1 / temperature; where all rows are right it has none, and the temperature is `LEAST`.

    Args:
        rows: Rows of a predictions table at temperature 1, none of which was trained on; one at least.
    """
    weights = 1 / rows.groupby("source")["source"].transform("size") if sources_known(rows) else np.ones(len(rows))
    logits = _logits(matrix_of(rows))
    true = logits[np.arange(len(rows)), pd.Index(classes_of(rows)).get_indexer(rows["label"])]

    def loss(logarithm: float) -> float:
        temperature = np.exp(logarithm)
        losses = np.log(np.exp(logits / temperature).sum(axis=1)) - true / temperature
        return float(np.average(losses, weights=weights))

    found = minimize_scalar(loss, bounds=np.log([LEAST, MOST]), method="bounded", options={"xatol": 1e-8})
    return float(np.clip(np.exp(found.x), LEAST, MOST))


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """Return the probabilities (N, C) that the same logits have at a temperature; at 1 the very same.

    Args:
        probabilities: At temperature 1, (N, C).
        temperature: Above 0. Above 1 they become more alike, below 1 less.
    """
    if temperature == 1:
        return probabilities
    # one memory layout: rows of another are summed in another order, which moves the last digit
    scaled = np.exp(_logits(np.ascontiguousarray(probabilities)) / temperature)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def _logits(probabilities: Floats) -> Floats:
    """Return logits (N, C), of which each row's highest is 0."""
    logits = np.log(np.maximum(probabilities, TINY))
    return np.asarray(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))


def tempered_table(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Return a predictions table with its probabilities at a temperature; what is predicted stays."""
    columns = [PROBABILITY + name for name in classes_of(predictions)]
    values = tempered(matrix_of(predictions), temperature)
    return predictions.assign(**dict(zip(columns, values.T, strict=True)))
