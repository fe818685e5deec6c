"""The limits of a classifier: out-of-distribution images, and the confidence below which to leave an image to a human.

The score of an image is the least squared Mahalanobis distance of its pooled features to a class mean, with one
covariance for all classes (Lee et al. 2018, https://arxiv.org/abs/1807.03888). Features are scaled to unit length
first, as their length varies with confidence (Mueller & Hein 2025, https://arxiv.org/abs/2505.18032). The covariance is
shrunk (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4), and distances are taken along its `DIRECTIONS` widest
directions, which recognised classes that were left out as well as all directions did (MobileNetV2 on PBC) and take a
tenth of the numbers.

Training images lie nearer to their means than others, so the threshold comes from unseen images, as in
`bloodcell.metrics.abstention`: one image of each source, and an exact binomial test. With its `CONFIDENCE`, at most
`FLAGGED` of future sources are flagged, if they are drawn as the validation sources were. Cells of another laboratory
are not: most or all of them may be flagged. Fewer sources promise a larger share (`flagged_share`), and the threshold
is then their highest score. If the validation part chose among several backbones, such as those of 15
epochs, the test allows for each of them, as promises do. A frozen backbone is the same in all epochs.

The threshold and each of the four error rates hold with `CONFIDENCE` by themselves; all five together hold with a half
at least (`bloodcell.metrics.abstention.joint_confidence`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

#: The largest share of unseen images of the known classes that may be flagged as out-of-distribution, if there are
#: sources enough to promise it; and the largest that is worth a threshold if there are fewer.
FLAGGED, MOST_FLAGGED = 0.05, 0.15
#: Names of the error rates that are promised.
RATES = ("0.01", "0.02", "0.05", "0.1")
DIRECTIONS = 128

#: What a person has to know of limits whose sources are unknown.
PROVISIONAL = "provisional, for it is unknown which images show the same cell or patient; an audit finds it"


@dataclass(frozen=True)
class Limits:
    """Where a classifier can be trusted.

    Attributes:
        means: Mean of each class's features of unit length, float32 (C, F).
        whitening: float32 (F, K); the squared norm of (f - mean) @ whitening is the squared Mahalanobis distance.
        threshold: An image of a higher score is out-of-distribution.
        abstention: Error rate, one of `RATES` -> the lowest confidence to answer with that keeps it on sources like
            those of the validation part; None: it cannot be promised.
        tta: The test-time augmentation with which that holds.
        provisional: The sources were unknown: the threshold is as if all images were of different cells, and no error
            rate is promised.
        flagged: The largest share of unseen images of the known classes above the threshold, `FLAGGED` to
            `MOST_FLAGGED`.
    """

    means: Floats
    whitening: Floats
    threshold: float
    abstention: dict[str, float | None]
    tta: str = "none"
    provisional: bool = False
    flagged: float = FLAGGED


@dataclass(frozen=True)
class Fold:
    """The features of a fold's net."""

    val: Array  # whether each image is in the validation part, bool (N,)
    train_features: Array  # of the other images, (N - M, F)
    val_features: Array  # (M, F)


def score(limits: Limits, features: Array) -> Array:
    """Return the out-of-distribution scores, float64 (N,), of pooled features (N, F) without augmentation."""
    return _distance(_unit(features), limits.means, limits.whitening)


def fit_limits(
    train_features: Array,
    train_labels: Array,
    val_features: Array,
    val_rows: Any,
    tta: str = "none",
    compared: int = 1,
    provisional: bool = False,
    backbones: int = 1,
) -> Limits:
    """Find the limits of a trained classifier.

    Args:
        train_features: Pooled features of training images, not augmented, (N, F).
        train_labels: The class of each, 0 to C - 1, each class at least once, (N,).
        val_features: Pooled features of images that share no source with training, (M, F).
        val_rows: Their rows of a predictions table, calibrated, a data frame of M rows.
        tta: The test-time augmentation of `val_rows`.
        compared: The number of classifiers among which `val_rows` chose this one.
        provisional: Promise no error rate, for the sources of the images are unknown.
        backbones: The number of different backbones among these classifiers.

    Raises:
        BloodcellError: There are too few validation sources to set a threshold.
    """
    means, whitening = _fit_distance(_unit(train_features), np.asarray(train_labels))
    scores = _distance(_unit(val_features), means, whitening)
    abstention = _promised(val_rows, compared, provisional)
    threshold, flagged = unlike_threshold(scores, val_rows, backbones)
    return Limits(means, whitening, threshold, abstention, tta, provisional, flagged)


def fit_limits_by_folds(
    features: Array,
    labels: Array,
    folds: Sequence[Fold],
    rows: Any,
    classes: int,
    tta: str = "none",
    provisional: bool = False,
) -> Limits:
    """Find the limits of a classifier that all images trained, by the nets of a cross-validation.

    The scores that set the threshold are those of each image by the net of the fold that did not train on it. A class
    without images has the mean of another one: its images are flagged unless they are like that.

    Args:
        features: Pooled features of the images by the classifier, (N, F).
        labels: The class of each, 0 to `classes` - 1, (N,).
        folds: The folds; an image is in one validation part, or in none.
        rows: A predictions table of the folds' nets, calibrated, with a row for each image of a validation part.
        classes: The number of classes.
        tta: The test-time augmentation of `rows`.
        provisional: Promise no error rate, for the sources of the images are unknown.

    Raises:
        BloodcellError: There are too few sources to set a threshold.
    """
    scores = np.full(len(labels), np.nan)
    for fold in folds:
        means, whitening = _fit_distance(_unit(fold.train_features), _numbered(labels[~fold.val]))
        scores[fold.val] = _distance(_unit(fold.val_features), means, whitening)
    means, whitening = _fit_distance(_unit(features), _numbered(labels))
    present = np.unique(labels)
    nearest = np.abs(np.arange(classes)[:, None] - present).argmin(axis=1)
    threshold, flagged = unlike_threshold(scores[~np.isnan(scores)], rows)
    return Limits(means[nearest], whitening, threshold, _promised(rows, 1, provisional), tta, provisional, flagged)


def _numbered(labels: Array) -> Array:
    """Return labels as 0 to the number of those that occur, less 1."""
    return np.asarray(np.unique(labels, return_inverse=True)[1])


def _promised(rows: Any, compared: int, provisional: bool) -> dict[str, float | None]:
    """Return the lowest confidence that keeps each error rate; None: it cannot be promised."""
    from bloodcell.metrics.abstention import promise  # with pandas and scipy, which a score does without

    promised = {} if provisional else {rate: promise(rows, float(rate), compared) for rate in RATES}
    return {rate: one.threshold if (one := promised.get(rate)) and one.attained else None for rate in RATES}


def _unit(features: Array) -> Array:
    """Return features of length 1, float64; those that are all 0 stay so."""
    wide = np.asarray(features, np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))


def _fit_distance(features: Array, labels: Array) -> tuple[Floats, Floats]:
    """Return class means (C, F) and whitening (F, K) of the shrunk covariance about the means."""
    from sklearn.covariance import ledoit_wolf

    means = np.stack([features[labels == one].mean(axis=0) for one in range(labels.max() + 1)])
    whole = features.shape[1]  # in one block it takes a third of the time
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True, block_size=whole)
    variances, directions = np.linalg.eigh(covariance)
    least = np.finfo(np.float32).eps * max(variances[-1], np.finfo(np.float32).tiny)  # tiny if features never vary
    whitening = directions[:, -DIRECTIONS:] / np.sqrt(np.maximum(variances[-DIRECTIONS:], least))
    return means.astype(np.float32), whitening.astype(np.float32)


def _distance(features: Array, means: Floats, whitening: Floats) -> Array:
    """Return the least squared distance of each row to a mean, float64 (N,)."""
    wide = whitening.astype(np.float64)
    places, centres = features @ wide, means.astype(np.float64) @ wide
    return np.asarray(np.stack([((places - centre) ** 2).sum(axis=1) for centre in centres]).min(axis=0))


def flagged_share(sources: int, backbones: int = 1) -> float:
    """Return the largest share of future sources, 0 to 1, above a threshold that some sources, at least 1, set.

    That is `FLAGGED`, or with fewer sources the share above their highest score, in whole per cent: with 44 it is 6 %,
    with 15 15 %. `backbones` is that of `unlike_threshold`.
    """
    from bloodcell.metrics.abstention import CONFIDENCE

    above_highest = 1.0 - math.pow((1 - CONFIDENCE) / backbones, 1 / sources)
    return max(FLAGGED, math.ceil(100 * above_highest - 1e-9) / 100)


def unlike_threshold(scores: Array, rows: Any, backbones: int = 1) -> tuple[float, float]:
    """Return a score, and the largest share of future sources that lies above it.

    The scores, (M,), are of images that are not in training, with these rows of a predictions table. `backbones` is the
    number of backbones, at least 1, among which these images chose this one.

    Raises:
        BloodcellError: There are too few sources.
    """
    from scipy.stats import binom

    from bloodcell.metrics.abstention import CONFIDENCE, least_sources, one_per_source

    drawn = np.sort(one_per_source(rows.assign(score=scores))["score"].to_numpy(float))
    if len(drawn) < (least := least_sources(MOST_FLAGGED, backbones)):
        raise BloodcellError(f"what is unlike the training data wants {least} val sources; there are {len(drawn)}")
    chance, share = (1 - CONFIDENCE) / backbones, flagged_share(len(drawn), backbones)
    above = int((binom.cdf(np.arange(len(drawn)), len(drawn), share) <= chance).sum()) - 1
    return float(drawn[len(drawn) - 1 - above]), share


def to_plain(limits: Limits) -> dict[str, Any]:
    """Return limits as tensors and plain values for a checkpoint."""
    import torch

    arrays = {"means": torch.from_numpy(limits.means), "whitening": torch.from_numpy(limits.whitening)}
    return {**vars(limits), **arrays, "abstention": dict(limits.abstention)}


def from_plain(plain: dict[str, Any]) -> Limits:
    """Return the limits in the plain form of `to_plain`; arrays and lists serve as well as tensors.

    Raises:
        BloodcellError: They are incomplete or do not fit together.
    """
    try:
        means, whitening = (np.asarray(plain[name], np.float32) for name in ("means", "whitening"))
        confidences = {str(rate): None if one is None else float(one) for rate, one in plain["abstention"].items()}
        provisional = plain.get("provisional") is True  # an older one does not say
        flagged = float(plain.get("flagged", FLAGGED))  # an older one took sources enough for it
        promised = float(plain["threshold"]), confidences, str(plain["tta"])
        limits = Limits(means, whitening, *promised, provisional, flagged)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BloodcellError("its limits are not whole; the file is damaged") from error
    fits = means.ndim == 2 and whitening.shape[:1] == means.shape[1:]
    if not fits or not math.isfinite(limits.threshold) or not 0 < flagged < 1:
        raise BloodcellError("its limits do not fit together; the file is damaged")
    return limits
