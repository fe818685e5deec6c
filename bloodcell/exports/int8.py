"""An exported ONNX file in 8-bit integers: calibrated on training images, measured beside the float32 file."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bloodcell.data.samples import Samples, read_samples
from bloodcell.inference.engine import Engine
from bloodcell.inference.exported.metadata import About
from bloodcell.inference.exported.onnx_engine import load_exported
from bloodcell.inference.predict_samples import predict_samples
from bloodcell.inference.quantisation import (
    FIRST_IN_FLOAT,
    LEAST_RATE,
    Measured,
    calibration,
    is_fast,
    no_gain,
    quantised,
    relative_rate,
    what_is_wanted,
)
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError


def in_int8(content: bytes, about: About, checkpoint: Path) -> tuple[bytes, str]:
    """Return an exported float32 ONNX file in integers, and what was measured.

    Args:
        content: The file's content.
        about: Its description.
        checkpoint: The checkpoint that it comes from; the images are those of its run.

    Raises:
        BloodcellError: The images are not there, or the file in integers is too slow or too inexact.
    """
    samples = _samples(checkpoint)
    images = calibration(samples.of_split("train"), about.preprocessing)
    named = replace(about, precision="int8").text()
    with tempfile.TemporaryDirectory() as folder:
        before = _loaded(content, Path(folder) / "float32.onnx")
        for count in FIRST_IN_FLOAT:
            integers = quantised(content, images, count, named)
            after = _loaded(integers, Path(folder) / f"{count}.onnx")
            rate = relative_rate(before.passes(1).run, after.passes(1).run, about.preprocessing.image_size)
            if is_fast(rate):
                break
        measured = compared(before, after, samples.of_split("val"), rate)
    said = f"int8: {measured} of the validation part"
    if not (measured.accurate and is_fast(rate)):
        raise BloodcellError(f"{said}; {what_is_wanted(LEAST_RATE)}, so nothing is written; leave precision=int8 out")
    return integers, f"{said}{no_gain()}"


def _samples(checkpoint: Path) -> Samples:
    run = run_folder.run_of(checkpoint)
    samples = read_samples(run / "samples.csv") if run and (run / "samples.csv").is_file() else None
    if samples is None or not {"train", "val"} <= set(samples.table["split"]):
        where = f"{checkpoint} lies in no run folder with them"
        raise BloodcellError(f"precision=int8 needs the run's training and validation images, and {where}")
    return samples


def _loaded(content: bytes, file: Path) -> Engine:
    file.write_bytes(content)
    return load_exported(file)


def compared(before: Engine, after: Engine, val: Samples, rate: float) -> Measured:
    """Measure the accuracy of a file in integers beside the float32 file, on the validation images."""
    (one, *_), (other, *_) = predict_samples([before, after], val, "none")
    return Measured(rate, _balanced_accuracy(one), _balanced_accuracy(other), len(val.table))


def _balanced_accuracy(table: pd.DataFrame) -> float:
    """Return the mean recall of the classes, by image, in percent."""
    return 100 * float((table["prediction"] == table["label"]).groupby(table["label"]).mean().mean())
