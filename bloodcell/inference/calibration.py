"""The end of a training: temperature, limits and confusions of the validation part, kept in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.inference.features import Extractor
from bloodcell.metrics import confusion_rates
from bloodcell.metrics.abstention import least_sources
from bloodcell.metrics.by_source import sources_of
from bloodcell.metrics.confusion_rates import Confusion, confusion_of_table
from bloodcell.metrics.reliability import IMAGINED, fit_temperature, reliability, tempered_table
from bloodcell.models.ood import (
    FLAGGED,
    MOST_FLAGGED,
    PROVISIONAL,
    Fold,
    Limits,
    fit_limits,
    fit_limits_by_folds,
    to_plain,
)
from bloodcell.models.weights import write_checkpoint
from bloodcell.runtime.console import progress
from bloodcell.runtime.schema.data import InferenceConfig

#: Training images used for the limits: enough for a covariance in the widest directions, in a few seconds.
MOST = 4096
SEED = 0


@dataclass(frozen=True)
class Calibration:
    """What the validation part tells, and messages for the user."""

    temperature: float  # 1: none was fitted
    limits: Limits | None  # None: none were fitted
    confusion: Confusion | None  # how often each class is taken for each; None: unknown
    lines: list[str]


def calibrate(
    samples: Samples,
    predictions: pd.DataFrame,
    classes: list[str],
    extractor: Extractor,
    tta: str,
    temperature: bool = True,
    limits: bool = True,
    compared: int = 1,
    backbones: int = 1,
    learner: Extractor | None = None,
) -> Calibration:
    """Fit temperature and limits to the validation part, and count its confusions, as far as its samples allow.

    `predictions` is the run's predictions table at temperature 1, made with `tta` by the net of the extractor;
    `learner` computes the features of training images, if not the extractor does.
    `compared` is the number of epochs among which the validation part chose, and `backbones` that of their different
    backbones. The confusions come with the limits: a differential count is corrected by them.
    """
    rows = predictions[predictions["split"] == "val"]
    fitted, found, confusion, lines = 1.0, None, None, []
    if temperature:
        reason = temperature_obstacle(samples, rows)
        fitted = 1.0 if reason else fit_temperature(rows)
        lines.append(f"probabilities are not calibrated: {reason}" if reason else _temperature_line(rows, fitted))
    if limits:
        if provisional := unknown_sources(samples):
            rows = rows.assign(source=[str(number) for number in range(len(rows))])
        reason = limits_obstacle(samples, rows, provisional, backbones)
        calibrated = tempered_table(rows, fitted)
        if len(rows) and (provisional or not seen_obstacle(samples)):
            confusion = confusion_of_table(calibrated, provisional)
        extractors = learner or extractor, extractor
        found = (
            None if reason else _limits(samples, calibrated, classes, extractors, tta, compared, provisional, backbones)
        )
        lines.append(
            _limits_line(found, rows, compared) if found else f"out-of-distribution images are not flagged: {reason}"
        )
    return Calibration(fitted, found, confusion, lines)


def calibrate_by_folds(
    samples: Samples, predictions: pd.DataFrame, classes: list[str], features: Any, folds: Sequence[Fold], tta: str
) -> Calibration:
    """Do as `calibrate` by the predictions of a cross-validation, for a classifier that all its images trained.

    If sources are unknown, each image counts as its own source, and the limits are provisional.

    Args:
        samples: The images, N.
        predictions: The predictions table at temperature 1, with `tta`, of those that are in a validation part of the
            folds, in their order; each row by a net that was not trained on it.
        classes: All classes of the classifier.
        features: Pooled features of the images by the classifier, (N, F).
        folds: The features of the folds' nets.
        tta: The test-time augmentation.
    """
    provisional = not samples.sources_known()
    rows = predictions.assign(source=sources_of(predictions))
    wrong = (rows["label"] != rows["prediction"]).any()
    fitted = fit_temperature(rows) if wrong else 1.0
    reason = "all images are right out of fold, which does not tell how sure to be of others"
    lines = [_temperature_line(rows, fitted) if wrong else f"probabilities are not calibrated: {reason}"]
    calibrated, limits = tempered_table(rows, fitted), None
    if (sources := rows["source"].nunique()) < (least := least_sources(MOST_FLAGGED)):
        lines.append(f"out-of-distribution images are not flagged: that takes {least} sources, and there are {sources}")
    else:
        labels = pd.Index(classes).get_indexer(samples.table["label"])
        limits = fit_limits_by_folds(features, labels, folds, calibrated, len(classes), tta, provisional)
        lines.append(_limits_line(limits, rows, 1))
    return Calibration(fitted, limits, confusion_of_table(calibrated, provisional), lines)


def keep_calibration(
    calibration: Calibration, inference: InferenceConfig, checkpoint: dict[str, Any], file: Path
) -> None:
    """Write a checkpoint's content to its file, with all that predictions and differential counts need besides."""
    kept: dict[str, Any] = {}
    if inference != InferenceConfig():
        kept["inference"] = asdict(inference)
    if calibration.temperature != 1:
        kept["temperature"] = calibration.temperature
    if calibration.limits is not None:
        kept["limits"] = to_plain(calibration.limits)
    if calibration.confusion is not None:
        kept["confusion"] = confusion_rates.to_plain(calibration.confusion)
    if kept:
        write_checkpoint({**checkpoint, **kept}, file)


def temperature_obstacle(samples: Samples, rows: pd.DataFrame) -> str | None:
    """Return why no temperature can be fitted to predictions of the validation part; None if one can."""
    if reason := seen_obstacle(samples):
        return reason
    if (rows["label"] == rows["prediction"]).all():
        return "all val images are right, which does not tell how sure to be of others"
    return None


def limits_obstacle(samples: Samples, rows: pd.DataFrame, provisional: bool, backbones: int = 1) -> str | None:
    """Return why no limits can be fitted to predictions of the validation part; None if they can.

    Unknown sources are no reason: then the limits are provisional. A choice among several backbones takes more sources.
    """
    if not provisional and (reason := seen_obstacle(samples)):
        return reason
    if (sources := rows["source"].nunique()) < (least := least_sources(MOST_FLAGGED, backbones)):
        takes, more = f"that takes {least} val sources", "set data.val_fraction higher"
        if backbones > 1:
            takes += f", as they also chose among {backbones:,} epochs of training"
            more += ", or choose no epoch: callbacks=to_the_end"
        return f"{takes}, and there are {sources}; {more}"
    return None


def seen_obstacle(samples: Samples) -> str | None:
    """Return why validation images may be copies of training images; None if they are not."""
    train, val = samples.of_split("train").table, samples.of_split("val").table
    if unknown_sources(samples):
        return "the sources of the val images, or of training images beside them, are unknown; an audit finds them"
    if shared := val["source"].isin(train["source"]).sum():
        return f"{shared:,} val images share a source with training; data.split=grouped keeps them apart"
    return None


def unknown_sources(samples: Samples) -> bool:
    """Return whether the source of a validation image, or of a training image of the same set, is unknown."""
    train, val = samples.of_split("train").table, samples.of_split("val").table
    return bool((pd.concat([train[train["set"].isin(val["set"])], val])["source"] == "").any())


def spread(train: Samples) -> Samples:
    """Return at most `MOST` training images, spread evenly over the sources."""
    mixed = train.table.sample(frac=1, random_state=SEED)
    turn = mixed.groupby(sources_of(mixed)).cumcount()
    turn[~mixed["label"].duplicated()] = -1  # each class needs a mean, however rare it is
    chosen = turn.sort_values(kind="stable").index[:MOST]
    return Samples(train.table.loc[sorted(chosen)].reset_index(drop=True), train.root)


def _limits(
    samples: Samples,
    rows: pd.DataFrame,
    classes: list[str],
    extractors: tuple[Extractor, Extractor],
    tta: str,
    compared: int,
    provisional: bool,
    backbones: int,
) -> Limits:
    train = spread(samples.of_split("train"))
    with progress("limits") as report:
        learnt = np.asarray(extractors[0].features(train, report)[:])
        unseen = np.asarray(extractors[1].features(samples.of_split("val"), report)[:])
    labels = pd.Index(classes).get_indexer(train.table["label"])
    return fit_limits(learnt, labels, unseen, rows, tta, compared, provisional, backbones)


def _temperature_line(rows: pd.DataFrame, temperature: float) -> str:
    before, after = (reliability(tempered_table(rows, one)).ece for one in (1.0, temperature))
    change = f"on these same images, their calibration error is {after:.3f}, {before:.3f} without it"
    if (sources := rows["source"].nunique()) < IMAGINED:
        few = f"{sources:,} val sources, fewer than {IMAGINED}, move the temperature little, to {temperature:.2f}"
        return f"probabilities are barely calibrated: {few}; {change}"
    return f"probabilities are calibrated by {sources:,} val sources: temperature {temperature:.2f}; {change}"


def _limits_line(limits: Limits, rows: pd.DataFrame, compared: int) -> str:
    if limits.provisional:
        return f"limits by {len(rows):,} val images, {PROVISIONAL}: {_flags(limits)}, and no error rate is promised"
    promised = [f"{100 * float(rate):g} % from {one:.2f}" for rate, one in limits.abstention.items() if one is not None]
    answers = f"errors among answers, by confidence: at most {', '.join(promised)}" if promised else "no rate of errors"
    sources = f"{rows['source'].nunique():,} val sources"
    missing = [float(rate) for rate, one in limits.abstention.items() if one is None]
    takes = [f"{100 * rate:g} % from {least_sources(rate, compared):,}" for rate in missing]
    wanted = f"; not promised, and how many val sources it takes if all are right: {', '.join(takes)}" if takes else ""
    chosen = f" that chose among {compared:,} epochs" if compared > 1 else ""
    return f"limits by {sources}{chosen}: {_flags(limits)}; promised: {answers}{wanted}"


def _flags(limits: Limits) -> str:
    said = "out-of-distribution images are flagged"
    if limits.flagged == FLAGGED:
        return said
    return f"{said}, and, as the val sources are few, up to {100 * limits.flagged:.0f} % of ordinary unseen cells, too"
