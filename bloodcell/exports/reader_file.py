"""The file of the package's reader: a run's classifier in half precision, without what only training needs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloodcell.exports.parity import pictures_of
from bloodcell.exports.reader_card import reader_card
from bloodcell.inference.engine import engine_of
from bloodcell.inference.tta import symmetries
from bloodcell.models.classifier import load_checkpoint, load_classifier
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically, write_text

#: What a reader keeps of a checkpoint: see `bloodcell.inference.calibration.keep_calibration`.
KEPT = ("temperature", "limits", "confusion", "inference", "epoch")
#: Bytes that the file may have at most.
MOST = 5_000_000
#: The largest difference of a probability from the checkpoint's that half precision may make.
TOLERANCE = 0.03


def write_reader(checkpoint: Path, file: Path, laboratories: str | None) -> str:
    """Write the file and its card, and return how its answers differ from the checkpoint's.

    Args:
        checkpoint: A run's checkpoint.
        file: The file, FILE.ckpt; the card is FILE.md.
        laboratories: leave_one_lab_out.csv of a multirun of the same recipe, for the card; None: no such figures.

    Raises:
        BloodcellError: The file would be too large, its answers would differ, or the table cannot be read.
    """
    content = reader_content(checkpoint)
    if len(content) > MOST:
        raise BloodcellError(f"the reader would have {len(content) / 1e6:.1f} MB, and may have {MOST / 1e6:g}; "
                             "choose a smaller net, e.g. with model.width=0.75")  # fmt: skip
    said = ""

    def write(temporary: Path) -> None:
        nonlocal said
        temporary.write_bytes(content)
        said = compared(temporary, checkpoint)
        write_text(reader_card(temporary, checkpoint, said, laboratories), file.with_suffix(".md"))

    write_atomically(file, write)  # so the file is in its place only after the comparison and with its card
    return said


def reader_content(checkpoint: Path) -> bytes:
    """Return the content of a reader's file: a checkpoint with weights in float16, and no path of this machine."""
    whole = load_checkpoint(checkpoint)
    described = whole["hyper_parameters"]
    # in a plain dict, torch takes missing counters of batches for 0
    state = {name: _half(value) for name, value in whole["state_dict"].items() if not name.endswith("batches_tracked")}
    kept = {name: whole[name] for name in KEPT if name in whole}
    if limits := kept.get("limits"):
        kept["limits"] = {**limits, "means": _half(limits["means"]), "whitening": _half(limits["whitening"])}
    model = {**described["model"], "weights": None}
    buffer = io.BytesIO()
    torch.save({"hyper_parameters": {**described, "model": model}, "state_dict": state, **kept}, buffer)
    return buffer.getvalue()


def _half(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    half = value.half().contiguous()
    if not bool(torch.isfinite(half).all()):
        raise BloodcellError("a number of the classifier is too large for half precision; it can be no reader")
    return half


def compared(file: Path, checkpoint: Path) -> str:
    """Return how much a reader's probabilities differ from its checkpoint's on the run's own pictures, or painted ones.

    Raises:
        BloodcellError: A probability differs by `TOLERANCE` or more.
    """
    engines = [engine_of(load_classifier(one), "cpu", "eager") for one in (checkpoint, file)]
    preprocessing = engines[0].preprocessing
    pictures = pictures_of(checkpoint, preprocessing.white)
    images = np.stack([pixels for pixels, _ in preprocessing.prepare(pictures.each)])
    before, after = (one.predict(images, None, symmetries(one.tta)).probabilities for one in engines)
    largest = float(np.abs(before - after).max())
    if not largest < TOLERANCE:
        raise BloodcellError(
            f"in half precision the net answers otherwise: a probability differs by {largest:.2g} on {pictures.what}, "
            f"and {TOLERANCE:g} is allowed; nothing is written"
        )
    return f"largest difference of a probability from the checkpoint {largest:.1g}, on {pictures.what}"
