"""The end of a training: what the classifier knows of its limits, by the validation part, kept in its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.inference.calibration import seen_obstacle
from bloodcell.inference.features import Extractor
from bloodcell.metrics.by_source import sources_of
from bloodcell.models.classifier import load_checkpoint
from bloodcell.models.ood import Limits, fit_limits, least_sources, to_plain
from bloodcell.models.weights import write_checkpoint
from bloodcell.runtime.console import progress
from bloodcell.runtime.errors import BloodcellError

#: Training images that are looked at: enough for a covariance in the widest directions of the features, and some
#: seconds' work however large the training part is.
MOST = 4096
SEED = 0


def knows_limits(config: dict[str, Any]) -> bool:
    """Say whether a run finds its limits.

    Raises:
        BloodcellError: `limits` is neither true nor false.
    """
    asked = config.get("limits", False)  # the saved configuration of an older run has no such key
    if asked not in (True, False):
        raise BloodcellError(f"limits={asked}; choose true or false")
    return bool(asked)


def keep_limits(
    samples: Samples, predictions: pd.DataFrame, classes: list[str], extractor: Extractor, tta: str, file: Path
) -> str:
    """Find the limits by the validation part, and keep them in the checkpoint.

    Args:
        samples: The run's samples.
        predictions: Its predictions table, calibrated where that could be.
        classes: The classifier's classes.
        extractor: Of the net that predicted.
        tta: The symmetries over which the predictions are averaged.
        file: The checkpoint that predicted.

    Returns:
        A line that says what is known, or why nothing is.
    """
    rows = predictions[predictions["split"] == "val"]
    if reason := obstacle(samples, rows):
        return f"what is unlike the training data is not known: {reason}"
    train = spread(samples.of_split("train"))
    with progress("limits") as report:
        learnt = np.asarray(extractor.features(train, report)[:])
        unseen = np.asarray(extractor.features(samples.of_split("val"), report)[:])
    labels = pd.Index(classes).get_indexer(train.table["label"])
    limits = fit_limits(learnt, labels, unseen, rows, tta)
    content = {**load_checkpoint(file), "limits": to_plain(limits)}
    write_checkpoint(content, file)
    return said(limits, rows["source"].nunique())


def obstacle(samples: Samples, rows: pd.DataFrame) -> str | None:
    """Say why the validation part cannot tell what unseen cells look like; None where it can.

    Args:
        samples: The run's samples.
        rows: The predictions of the validation part.
    """
    if reason := seen_obstacle(samples):
        return reason
    if (sources := rows["source"].nunique()) < least_sources():
        return f"that wants {least_sources()} val sources, and there are {sources}; set data.val_fraction higher"
    return None


def spread(train: Samples) -> Samples:
    """Return `MOST` of the training images at most, drawn so that no source has many while another lacks one."""
    mixed = train.table.sample(frac=1, random_state=SEED)
    turn = mixed.groupby(sources_of(mixed)).cumcount()
    turn[~mixed["label"].duplicated()] = -1  # each class needs a mean, however rare it is
    chosen = turn.sort_values(kind="stable").index[:MOST]
    return Samples(train.table.loc[sorted(chosen)].reset_index(drop=True), train.root)


def said(limits: Limits, sources: int) -> str:
    """Say what is known."""
    promised = [f"{100 * float(rate):g} % from {one:.2f}" for rate, one in limits.abstention.items() if one is not None]
    answers = f"errors among answers, by confidence: at most {', '.join(promised)}" if promised else "no rate of errors"
    return f"limits by {sources:,} val sources: what is unlike the training data is flagged; promised: {answers}"
