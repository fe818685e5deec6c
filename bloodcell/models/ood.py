"""What a classifier knows of its own limits: what is unlike all that it learnt, and when to leave an image to a human.

Unlike the training data is what lies far from every class in the space of the pooled features: the least squared
Mahalanobis distance to a class mean, all classes sharing one covariance (Lee et al. 2018,
https://arxiv.org/abs/1807.03888). Features are brought to unit length first, as their length varies with how sure the
net is and hides distances of direction (Mueller & Hein 2025, https://arxiv.org/abs/2505.18032). The covariance is
shrunk (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4), and distances are taken along its `DIRECTIONS` widest
directions, which tell classes that were left out from cells of the known ones as well as all directions do (area under
the ROC curve 0.947 and 0.945, by a MobileNetV2) and take a tenth of the numbers.

Training images lie nearer to their means than other images of the same kind, so the threshold is set by images that no
training has seen, in the manner of `bloodcell.metrics.abstention`: one image of each source, and an exact binomial
test. With its `CONFIDENCE`, at most `FLAGGED` of the sources to come are flagged; that takes `LEAST_SOURCES` sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

#: The most of unseen images of the known classes that may be called unlike the training data.
FLAGGED = 0.05
#: Error rates that are promised, as they are named.
RATES = ("0.01", "0.02", "0.05", "0.1")
#: Directions of the feature space in which distances are measured.
DIRECTIONS = 128


@dataclass(frozen=True)
class Limits:
    """Where a classifier can be trusted.

    Attributes:
        means: Mean of each class's features of unit length, float32 (C, F).
        whitening: float32 (F, K); the squared norm of (f - mean) @ whitening is the Mahalanobis distance.
        threshold: An image of a higher score is unlike the training data.
        abstention: Error rate, one of `RATES` -> the lowest confidence with which to answer so that no more answers are
            wrong, of sources drawn as those of the validation part; None: it cannot be promised.
        tta: The symmetries over which predictions were averaged when that was promised; with others it may not hold.
    """

    means: Floats
    whitening: Floats
    threshold: float
    abstention: dict[str, float | None]
    tta: str = "none"


def score(limits: Limits, features: Array) -> Array:
    """Return how unlike the training data images are: float64 (N,), the larger the more.

    Args:
        limits: The classifier's.
        features: What its backbone makes of the images, pooled, under no symmetry: (N, F).
    """
    return _distance(_unit(features), limits.means, limits.whitening)


def fit_limits(
    train_features: Array, train_labels: Array, val_features: Array, val_rows: Any, tta: str = "none"
) -> Limits:
    """Find the limits of a trained classifier.

    Args:
        train_features: Pooled features of training images, not augmented, (N, F).
        train_labels: The class of each, 0 to C - 1, each class once at least, (N,).
        val_features: Those of images that share no source with training, (M, F).
        val_rows: Their rows of a predictions table, calibrated as the classifier is, a data frame of M rows.
        tta: The symmetries over which the predictions of `val_rows` are averaged.

    Raises:
        BloodcellError: There are too few validation sources to set a threshold.
    """
    from bloodcell.metrics.abstention import promise  # with pandas and scipy, which a score does without

    means, whitening = _fit_distance(_unit(train_features), np.asarray(train_labels))
    scores = _distance(_unit(val_features), means, whitening)
    promised = {rate: promise(val_rows, float(rate)) for rate in RATES}
    abstention = {rate: one.threshold if one.attained else None for rate, one in promised.items()}
    return Limits(means, whitening, unlike_threshold(scores, val_rows), abstention, tta)


def _unit(features: Array) -> Array:
    """Return features of length 1, float64; those that are all 0 stay so."""
    wide = np.asarray(features, np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))


def _fit_distance(features: Array, labels: Array) -> tuple[Floats, Floats]:
    """Return class means (C, F) and whitening (F, K) of the shrunk covariance about the means."""
    from sklearn.covariance import ledoit_wolf

    means = np.stack([features[labels == one].mean(axis=0) for one in range(labels.max() + 1)])
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    least = np.finfo(np.float32).eps * max(variances[-1], np.finfo(np.float32).tiny)  # where features never vary
    whitening = directions[:, -DIRECTIONS:] / np.sqrt(np.maximum(variances[-DIRECTIONS:], least))
    return means.astype(np.float32), whitening.astype(np.float32)


def _distance(features: Array, means: Floats, whitening: Floats) -> Array:
    """Return the least squared distance of each row to a mean, float64 (N,)."""
    wide = whitening.astype(np.float64)
    places, centres = features @ wide, means.astype(np.float64) @ wide
    return np.asarray(np.stack([((places - centre) ** 2).sum(axis=1) for centre in centres]).min(axis=0))


def unlike_threshold(scores: Array, rows: Any) -> float:
    """Return the score above which at most `FLAGGED` of the sources to come lie, as the module says.

    Args:
        scores: Of images that no training has seen, (M,).
        rows: Their rows of a predictions table.

    Raises:
        BloodcellError: There are too few sources.
    """
    from scipy.stats import binom

    from bloodcell.metrics.abstention import CONFIDENCE, one_per_source

    drawn = np.sort(one_per_source(rows.assign(score=scores))["score"].to_numpy(float))
    if len(drawn) < (least := least_sources()):
        raise BloodcellError(f"what is unlike the training data wants {least} val sources; there are {len(drawn)}")
    above = int((binom.cdf(np.arange(len(drawn)), len(drawn), FLAGGED) <= 1 - CONFIDENCE).sum()) - 1
    return float(drawn[len(drawn) - 1 - above])


def least_sources() -> int:
    """Return the number of sources of which, if none is flagged, at most `FLAGGED` of all are."""
    from bloodcell.metrics.abstention import CONFIDENCE

    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - FLAGGED))


def to_plain(limits: Limits) -> dict[str, Any]:
    """Return limits as tensors and plain values, which a checkpoint may hold."""
    import torch

    arrays = {"means": torch.from_numpy(limits.means), "whitening": torch.from_numpy(limits.whitening)}
    plain = {"threshold": limits.threshold, "abstention": dict(limits.abstention), "tta": limits.tta}
    return {**arrays, **plain}


def from_plain(plain: dict[str, Any]) -> Limits:
    """Return the limits that `to_plain` made plain; its tensors may be arrays or lists by now.

    Raises:
        BloodcellError: They are not whole.
    """
    try:
        means, whitening = (np.asarray(plain[name], np.float32) for name in ("means", "whitening"))
        confidences = {str(rate): None if one is None else float(one) for rate, one in plain["abstention"].items()}
        limits = Limits(means, whitening, float(plain["threshold"]), confidences, str(plain["tta"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BloodcellError("its limits are not whole; the file is damaged") from error
    if means.ndim != 2 or whitening.shape[:1] != means.shape[1:] or not math.isfinite(limits.threshold):
        raise BloodcellError("its limits do not fit together; the file is damaged")
    return limits
