"""Calibration: how far confidence and accuracy are apart, and the temperature that brings them together.

Guo et al. 2017, "On calibration of modern neural networks" (https://arxiv.org/abs/1706.04599): logits are divided by a
temperature that makes the validation labels most likely. The order of the classes stays, and with it every prediction.

A few sources say little about either. A perfectly calibrated classifier has an error, too, by chance, and
`ece_by_chance` tells how much (consistency resampling: Bröcker & Smith 2007, doi:10.1175/WAF993.1). A temperature is
drawn towards 1 by `IMAGINED` sources that are as the classifier says. Simulations of both:
``python tests/benchmarks/calibration_by_chance.py`` and ``python tests/benchmarks/temperature_of_few.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from bloodcell.metrics.by_source import sources_known, sources_of
from bloodcell.metrics.intervals import mean_estimate
from bloodcell.metrics.parts import Floats, by_image, parts_of
from bloodcell.metrics.predictions import PROBABILITY, classes_of, matrix_of

#: Bounds of the temperature.
LEAST, MOST = 0.05, 20.0
#: Stands in for a probability of 0, whose logarithm is not finite.
TINY = np.finfo(float).tiny
#: Sources with the outcomes that the probabilities say, beside those at hand, when a temperature is fitted. By
#: simulation, the log loss rises by at most 0.003 nats at any number of sources and any truth; with 20, by 0.006. The
#: most likely temperature of fewer sources than these does harm (20 sources: up to 0.058 nats; 45: 0.009). So they
#: weigh less than the imagined ones, and the probabilities are called barely calibrated.
IMAGINED = 40
#: Bins of the confidence, 0 to 1, and simulations of a calibrated classifier.
BINS, DRAWS, SEED = 15, 500, 0
#: Two imagined sources of variance 1/4 whose images are right together: few sources cannot prove that theirs are not.
ALIKE = 0.5


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


def reliability(rows: pd.DataFrame, bins: int = BINS) -> Reliability:
    """Compare confidence and accuracy in equally wide bins of the highest probability, 0 to 1.

    A bin includes its lower edge; 1 has its own bin, as in torchmetrics. There is at least one row.
    """
    top, right = matrix_of(rows).max(axis=1), (rows["label"] == rows["prediction"]).to_numpy()
    number = _bin(top, bins)
    chosen = [number == one for one in np.unique(number)]
    found = [(top[one].mean(), right[one].mean(), *_limits(rows[one]), one.mean()) for one in chosen]
    return Reliability(*np.array(found).T)


def _bin(top: Floats, bins: int) -> NDArray[np.intp]:
    return np.digitize(top, np.linspace(0, 1, bins + 1))


def ece_by_chance(rows: pd.DataFrame, bins: int = BINS) -> float:
    """Return the calibration error, 0 to 1, that perfect calibration with these confidences exceeds 1 time in 20.

    Whether an image is right is drawn from its confidence. Images of one source share their draw as often as those at
    hand are right together, so that the simulated errors depend on one another as the real ones do.
    """
    generator = np.random.default_rng(SEED)
    top, source = matrix_of(rows).max(axis=1), pd.factorize(sources_of(rows), sort=True)[0]
    order = np.lexsort((top, source))  # so that the order of the rows does not matter
    top, source, right = top[order], source[order], (rows["label"] == rows["prediction"]).to_numpy()[order]
    number = _bin(top, bins)
    alike = np.sqrt(_correlation(top, right, source))  # two images share a draw if both are among these

    def drawn() -> float:
        shared = generator.random(source.max() + 1)[source]
        own = generator.random((2, len(top)))
        chance = np.where(own[0] < alike, shared, own[1])
        return float(np.abs(np.bincount(number, (chance < top) - top)).sum() / len(top))

    return float(np.quantile([drawn() for _ in range(DRAWS)], 0.95))


def _correlation(top: Floats, right: NDArray[np.bool_], source: NDArray[np.intp]) -> float:
    """Return how much the images of a source are right together, from 0, by chance, to 1, as far as possible.

    It compares the pairs of images of a source of which one is right with their number if each image were drawn alone.
    The images are sorted by source, and by confidence within each.
    """
    images, claimed, hits = (np.bincount(source, one) for one in (np.ones_like(top), top, right))
    surer = images.cumsum()[source] - 1 - np.arange(len(top))  # images of the source that are surer
    pairs = np.maximum(images * (images - 1), 1)
    both = claimed**2 - np.bincount(source, top**2)  # pairs that are both right if each is drawn alone
    fewer = ((images - 1) * claimed - both - hits * (images - hits)) / pairs
    fewest = (2 * np.bincount(source, top * surer) - both) / pairs
    return float(np.clip((fewer.sum() + ALIKE) / (fewest.sum() + ALIKE), 0, 1))


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
    sources are unknown. `IMAGINED` further sources have every class as often as its probability says, so that few
    sources move the temperature little from 1: the estimate is the most likely one given the prior that these are. The
    likelihood has one peak, as its logarithm is concave in 1 / temperature.
    """
    known = sources_known(rows)
    weights = 1 / rows.groupby("source")["source"].transform("size") if known else np.ones(len(rows))
    probabilities = matrix_of(rows)
    logits = _logits(probabilities)
    true = logits[np.arange(len(rows)), pd.Index(classes_of(rows)).get_indexer(rows["label"])]
    imagined = IMAGINED / (IMAGINED + (rows["source"].nunique() if known else len(rows)))
    mean = (1 - imagined) * true + imagined * (probabilities * logits).sum(axis=1)

    def loss(logarithm: float) -> float:
        temperature = np.exp(logarithm)
        losses = np.log(np.exp(logits / temperature).sum(axis=1)) - mean / temperature
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
