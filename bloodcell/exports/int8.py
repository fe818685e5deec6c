"""An exported ONNX file in 8-bit integers: calibrated on training images, measured beside the float32 file."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.decoder import decode_all
from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples, read_samples
from bloodcell.exports.quantisation import quantised
from bloodcell.inference.engine import Engine
from bloodcell.inference.exported.metadata import About
from bloodcell.inference.exported.onnx_engine import load_exported
from bloodcell.inference.predict_samples import predict_samples
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import decoders, has_int8_products

Array = np.ndarray[Any, np.dtype[Any]]

#: Least rate beside the float32 file, and most points of balanced accuracy that may be lost.
LEAST_RATE, MOST_LOST = 2.0, 0.5
#: Training images whose values set the ranges of the integers.
CALIBRATION = 256
#: How many of the first convolutions stay in float32, in the order of trial. The first has few channels, which are slow
#: in integers: with it in float32, MobileNetV2 is 2.1 times as fast, else 1.4 times. The second one, depthwise, makes
#: half of the error of the features; but in other nets it may be large.
FIRST_IN_FLOAT = (2, 1)
ROUNDS, SECONDS = 9, 0.3


@dataclass(frozen=True)
class Measured:
    """What a file in integers gains and costs.

    Attributes:
        rate: Images a second by the float32 file's, on one core.
        before: Balanced accuracy of the float32 file on validation images, in percent.
        after: That of the file in integers.
        images: Number of validation images.
    """

    rate: float
    before: float
    after: float
    images: int

    @property
    def accurate(self) -> bool:
        """Whether it loses no more than is allowed."""
        return self.before - self.after <= MOST_LOST

    @property
    def fast(self) -> bool:
        """Whether it is as fast as it must be, or the processor has no instructions for it."""
        return self.rate >= LEAST_RATE or not has_int8_products()

    def __str__(self) -> str:
        return (
            f"int8: {self.rate:.2f} times the float32 file's rate, balanced accuracy {self.after:.1f} % in place of "
            f"{self.before:.1f} % on {self.images:,} val images"
        )


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
    calibration = _calibration(samples.of_split("train"), about.preprocessing)
    named = replace(about, precision="int8").text()
    with tempfile.TemporaryDirectory() as folder:
        before = _loaded(content, Path(folder) / "float32.onnx")
        for count in FIRST_IN_FLOAT:
            integers = quantised(content, calibration, count, named)
            measured = compared(before, _loaded(integers, Path(folder) / f"{count}.onnx"), samples.of_split("val"))
            if measured.accurate and measured.fast:
                return integers, str(measured) + _no_gain()
    wanted = f"at least {LEAST_RATE:g} times and at most {MOST_LOST:g} points less are wanted"
    raise BloodcellError(f"{measured}; {wanted}, so nothing is written; leave precision=int8 out")


def _no_gain() -> str:
    return "" if has_int8_products() else "; it does not pay on this processor, which has no VNNI"


def _samples(checkpoint: Path) -> Samples:
    run = run_folder.run_of(checkpoint)
    samples = read_samples(run / "samples.csv") if run and (run / "samples.csv").is_file() else None
    if samples is None or not {"train", "val"} <= set(samples.table["split"]):
        where = f"{checkpoint} lies in no run folder with them"
        raise BloodcellError(f"precision=int8 needs the run's training and validation images, and {where}")
    return samples


def _calibration(train: Samples, preprocessing: Preprocessing) -> Array:
    files = train.paths()
    places = np.linspace(0, len(files) - 1, min(CALIBRATION, len(files))).astype(int)
    try:
        return decode_all([files[place] for place in places], preprocessing, decoders(None))
    except ImageError as error:
        raise BloodcellError(f"precision=int8 needs the run's training images: {error}") from error


def _loaded(content: bytes, file: Path) -> Engine:
    file.write_bytes(content)
    return load_exported(file)


def compared(before: Engine, after: Engine, val: Samples) -> Measured:
    """Measure a file in integers beside the float32 file, on the validation images."""
    (one, *_), (other, *_) = predict_samples([before, after], val, "none")
    return Measured(_relative_rate(before, after), _balanced_accuracy(one), _balanced_accuracy(other), len(val.table))


def _balanced_accuracy(table: pd.DataFrame) -> float:
    """Return the mean recall of the classes, by image, in percent."""
    return 100 * float((table["prediction"] == table["label"]).groupby(table["label"]).mean().mean())


def _relative_rate(before: Engine, after: Engine) -> float:
    """Return how many times as fast the second is, on one core: the median of several pairs."""
    return median(_rate(after) / _rate(before) for _ in range(ROUNDS))


def _rate(engine: Engine) -> float:
    """Return images a second of processor time, which other programs change less than that of a clock."""
    size, run = engine.preprocessing.image_size, engine.passes(1).run
    image, done, start = np.full((1, size, size, 3), 128, np.uint8), 0, time.thread_time()
    while (taken := time.thread_time() - start) < SECONDS:
        run(image)
        done += 1
    return done / taken
