"""Calibration: how far confidence and accuracy are apart, and the temperature that brings them together.

Guo et al. 2017, "On calibration of modern neural networks" (https://arxiv.org/abs/1706.04599): logits are divided by a
temperature that makes the validation labels most likely. The order of the classes stays, and with it every prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.intervals import mean_estimate
from bloodcell.metrics.parts import Floats, by_image, parts_of
from bloodcell.metrics.predictions import PROBABILITY, classes_of, matrix_of

#: Bounds of the temperature.
LEAST, MOST = 0.05, 20.0
#: Stands in for a probability of 0, whose logarithm is not finite.
TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class Reliability:
    """How often a classifier is right, by its confidence: arrays (bins,), one entry for each bin that has an image."""

    confidence: Floats  # mean of the highest probability
    accuracy: Floats  # share of the images that are right
    low: Floats  # limit of the accuracy's 95 % interval; NaN if sources are unknown
    high: Floats
    share: Floats  # of all images, that are in the bin

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence|, bins weighed by their share, 0 to 1."""
        return float((self.share * np.abs(self.accuracy - self.confidence)).sum())


def reliability(rows: pd.DataFrame, bins: int = 15) -> Reliability:
    """Compare confidence and accuracy in equally wide bins of the highest probability, 0 to 1.

    A bin includes its lower edge; 1 has its own bin, as in torchmetrics. There is at least one row.
    """
    top, right = matrix_of(rows).max(axis=1), (rows["label"] == rows["prediction"]).to_numpy()
    number = np.digitize(top, np.linspace(0, 1, bins + 1))
    chosen = [number == one for one in np.unique(number)]
    found = [(top[one].mean(), right[one].mean(), *_limits(rows[one]), one.mean()) for one in chosen]
    return Reliability(*np.array(found).T)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the accuracy's 95 % interval."""
    if not sources_known(rows):
        return np.nan, np.nan
    parts = parts_of(rows)
    estimate = mean_estimate(parts, *by_image(parts))
    return estimate.low, estimate.high


def brier_score(rows: pd.DataFrame) -> float:
    """Return the mean over the images of the sum over the classes of the squared errors, 0 to 2."""
    truth = np.array(classes_of(rows)) == rows["label"].to_numpy(dtype=str)[:, None]
    return float(((matrix_of(rows) - truth) ** 2).sum(axis=1).mean())


def fit_temperature(rows: pd.DataFrame) -> float:
    """Return the temperature, `LEAST` to `MOST`, that makes the labels most likely.

    The rows, at least one, are of temperature 1 and were not trained on. All sources weigh the same; all images do if
    sources are unknown. The likelihood has one peak, as its logarithm is concave in 1 / temperature. If all rows are
    right it has none, and the temperature is `LEAST`.
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
    """Return the probabilities, (N, C), that the same logits have at a temperature above 0; at 1 the same object."""
    if temperature == 1:
        return probabilities
    # one memory layout: rows of another are summed in another order, which moves the last digit
    scaled = np.exp(_logits(np.ascontiguousarray(probabilities)) / temperature)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def _logits(probabilities: Floats) -> Floats:
    logits = np.log(np.maximum(probabilities, TINY))
    return np.asarray(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))


def tempered_table(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Return a predictions table with its probabilities at a temperature and the same predictions."""
    columns = [PROBABILITY + name for name in classes_of(predictions)]
    values = tempered(matrix_of(predictions), temperature)
    made = predictions.assign(**dict(zip(columns, values.T, strict=True)))
    return made.copy()  # joins the columns: pandas warns of tables of more than a hundred pieces
