"""The end of a training: the temperature that makes its probabilities mean what they say, by the validation part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.metrics.reliability import fit_temperature, reliability, tempered_table
from bloodcell.models.weights import write_checkpoint
from bloodcell.runtime.errors import BloodcellError


def calibrates(config: dict[str, Any]) -> bool:
    """Say whether a run fits a temperature.

    Unless told, a fold does not: its validation predictions are out-of-fold ones, which owe nothing to their labels.

    Raises:
        BloodcellError: `calibrate` is neither true, false nor null.
    """
    asked = config.get("calibrate", False)  # the saved configuration of an older run has no such key
    if asked not in (True, False, None):
        raise BloodcellError(f"calibrate={asked}; choose true, false or null")
    return bool(asked) if asked is not None else config["data"]["fold"] is None


def calibrate(samples: Samples, predictions: pd.DataFrame, checkpoint: dict[str, Any], file: Path) -> tuple[float, str]:
    """Fit the temperature by the validation part, and keep it in the checkpoint.

    Args:
        samples: The run's samples.
        predictions: Its predictions table at temperature 1.
        checkpoint: The content of the file.
        file: The checkpoint that predicted.

    Returns:
        The temperature, and a line that says what it does; 1 and why, where none can be fitted.
    """
    rows = predictions[predictions["split"] == "val"]
    if reason := obstacle(samples, rows):
        return 1.0, f"probabilities are not calibrated: {reason}"
    temperature = fit_temperature(rows)
    content = {**checkpoint, "temperature": temperature}
    write_checkpoint(content, file)
    before, after = (reliability(tempered_table(rows, one)).ece for one in (1.0, temperature))
    sources = f"{rows['source'].nunique():,} val sources"
    change = f"their calibration error is {after:.3f}, {before:.3f} without it"
    return temperature, f"probabilities are calibrated by {sources}: temperature {temperature:.2f}; {change}"


def obstacle(samples: Samples, rows: pd.DataFrame) -> str | None:
    """Say why the validation part cannot tell how sure to be of unseen cells; None where it can.

    Args:
        samples: The run's samples.
        rows: The predictions of the validation part.
    """
    if reason := seen_obstacle(samples):
        return reason
    if (rows["label"] == rows["prediction"]).all():
        return "all val images are right, which does not tell how sure to be of others"
    return None


def seen_obstacle(samples: Samples) -> str | None:
    """Say why the validation images may be no news to the net: copies of what it learnt; None where they are news."""
    train, val = samples.of_split("train").table, samples.of_split("val").table
    beside = pd.concat([train[train["set"].isin(val["set"])], val])
    if (beside["source"] == "").any():
        return "the sources of the val images, or of training images beside them, are unknown; an audit finds them"
    if shared := val["source"].isin(train["source"]).sum():
        return f"{shared:,} val images share a source with training; data.split=grouped keeps them apart"
    return None
