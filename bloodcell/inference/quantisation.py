"""Nets in 8-bit integers: their ONNX graphs, and what they gain and lose."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bloodcell.data.decoder import decode_all
from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples, contents
from bloodcell.inference.backends import Backbone, Forward, quiet
from bloodcell.inference.exported.metadata import INPUT, KEY
from bloodcell.models.net import Net
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import decoders, has_int8_products
from bloodcell.runtime.schema.data import INT8

Array = np.ndarray[Any, np.dtype[Any]]

#: Least rate beside float32, and most points of balanced accuracy that may be lost.
LEAST_RATE, MOST_LOST = 2.0, 0.5
#: Training images whose values set the ranges of the integers.
CALIBRATION = 256
#: How many of the first convolutions stay in float32, in the order of trial: the most exact first, and less exact ones
#: only if it is too slow. Few channels are slow in integers, and make most of the error. MobileNetV2 with 0, 2, 3 and 5
#: in float32 is 1.5, 2.4, 2.3 and 2.0 times as fast as in float32, with 25, 12, 7 and 5 % of the features' variance as
#: error (tests/benchmarks/integers.py).
FIRST_IN_FLOAT = (5, 3, 2, 1)
ROUNDS, SECONDS = 9, 0.3

#: Operators in integers. Clip and Relu need no step of their own: the range of the integers does what they do.
IN_INTEGERS = ("Conv", "Clip", "Relu", "Add", "MaxPool")
FEATURES = "features"


@dataclass(frozen=True)
class Measured:
    """What integers gain and cost.

    Attributes:
        rate: Images a second, divided by those of float32, on one core.
        before: Balanced accuracy with float32 on images outside training, in percent.
        after: That with integers.
        images: Number of images on which that was measured.
    """

    rate: float
    before: float
    after: float
    images: int

    @property
    def accurate(self) -> bool:
        """Whether it loses no more than is allowed."""
        return self.before - self.after <= MOST_LOST

    def __str__(self) -> str:
        return (
            f"{self.rate:.2f} times the rate of float32, balanced accuracy {self.after:.1f} % in place of "
            f"{self.before:.1f} % on {self.images:,} images"
        )


def is_fast(rate: float) -> bool:
    """Return whether a rate beside float32 suffices; any does if the processor has no instructions for integers."""
    return rate >= LEAST_RATE or not has_int8_products()


def what_is_wanted(rate: float) -> str:
    """Return in words what integers must gain, at least, and may lose."""
    return f"at least {rate:g} times and at most {MOST_LOST:g} points less are wanted"


def no_gain() -> str:
    """Return the words for a processor that has no instructions for integers; none if it has them."""
    return "" if has_int8_products() else "; it does not pay on this processor, which has no VNNI"


def relative_rate(before: Callable[[Array], Any], after: Callable[[Array], Any], size: int) -> float:
    """Return how many times as fast a second net takes an image (1, size, size, 3), on one core: a median of pairs."""
    return median(_rate(after, size) / _rate(before, size) for _ in range(ROUNDS))


def _rate(run: Callable[[Array], Any], size: int) -> float:
    """Return images a second of processor time, which other programs change less than that of a clock."""
    image, done, start = np.full((1, size, size, 3), 128, np.uint8), 0, time.thread_time()
    while (taken := time.thread_time() - start) < SECONDS:
        run(image)
        done += 1
    return done / taken


def calibrating(train: Samples) -> Samples:
    """Return the training images whose values set the ranges, spread over all."""
    places = np.linspace(0, len(train.table) - 1, min(CALIBRATION, len(train.table))).astype(int)
    return Samples(train.table.iloc[places].reset_index(drop=True), train.root, train.white)


def calibration(train: Samples, preprocessing: Preprocessing) -> Array:
    """Decode the images of `calibrating`, uint8 (N, size, size, 3)."""
    try:
        return decode_all(calibrating(train).paths(), preprocessing, decoders(None))
    except ImageError as error:
        raise BloodcellError(f"precision=int8 needs the run's training images: {error}") from error


def quantised(content: bytes, images: Array, first_in_float: int, described: str) -> bytes:
    """Return an exported ONNX file with convolutions in integers; weights have a scale for each channel.

    The range of a value is the mean over the images of its least and largest number (Krishnamoorthi 2018,
    arXiv:1806.08342). The mean difference of the features is added to them (Nagel et al. 2019, arXiv:1906.04721).

    Args:
        content: The file's content.
        images: Training images, uint8 (N, size, size, 3).
        first_in_float: How many of the first convolutions stay in float32.
        described: The description in the new file.
    """
    import onnx

    model = onnx.ModelProto.FromString(content)
    integers = _in_integers(model, images, first_in_float)
    del integers.metadata_props[:]
    integers.metadata_props.add(key=KEY, value=described)
    difference = _features(model, images) - _features(integers, images)
    _add_to_features(integers, difference.mean(axis=0))
    return bytes(integers.SerializeToString())


def _in_integers(model: Any, images: Array, first_in_float: int) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with quiet(), tempfile.TemporaryDirectory() as folder:
        quantize_static(
            onnx.ModelProto.FromString(model.SerializeToString()),  # it changes the one that it is given
            file := Path(folder) / "int8.onnx",
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(IN_INTEGERS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=convolutions[:first_in_float] + _of_sizes(model),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(file)


def _of_sizes(model: Any) -> list[str]:
    """Return the names of the operators that compute with sizes, not with pixels: their results are integers."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    return [node.name for node in model.graph.node if kinds.get(node.output[0], 1) != 1]


class _Reader:
    """Gives ONNX Runtime's quantiser one image after the other."""

    def __init__(self, images: Array) -> None:
        self.inputs: Iterator[dict[str, Array]] = ({INPUT: image[None]} for image in images)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.inputs, None)


def _features(model: Any, images: Array) -> Array:
    """Return the features of images one by one, float32 (N, F)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([FEATURES], {INPUT: image[None]})[0] for image in images])


def _add_to_features(model: Any, difference: Array) -> None:
    from onnx import helper, numpy_helper

    graph, before, added = model.graph, f"{FEATURES} in integers", f"mean difference of {FEATURES}"
    place, last = next((place, node) for place, node in enumerate(graph.node) if FEATURES in node.output)
    last.output[:] = [before if name == FEATURES else name for name in last.output]
    graph.initializer.append(numpy_helper.from_array(difference.astype(np.float32), added))
    graph.node.insert(place + 1, helper.make_node("Add", [before, added], [FEATURES]))


class IntegerBackbone(Backbone):
    """The forward pass of a backbone in 8-bit integers, by ONNX Runtime on the CPU.

    Args:
        net: The net; not changed.
        preprocessing: Its preprocessing.
        train: The training images; the content of those that set the ranges is part of its name.

    Raises:
        BloodcellError: When it is built: an image cannot be read, or the net cannot be put into integers.
    """

    def __init__(self, net: Net, preprocessing: Preprocessing, train: Samples) -> None:
        super().__init__(net, preprocessing.image_size, "onnx")
        self.preprocessing, self.train, self.precision = preprocessing, train, INT8
        self.calibrated_by = hashlib.sha256("".join(contents(calibrating(train))).encode()).hexdigest()[:12]

    def _name(self, backend: str) -> str:
        return f"{super()._name(backend)} by {self.calibrated_by}, {FIRST_IN_FLOAT[0]} in float32"

    def forward(self, images: int | None = None) -> Forward:
        """Return the forward pass, the same for any number of images."""
        try:
            return self._built("onnx")
        except BloodcellError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise BloodcellError(f"the net cannot be put into integers: {reason}") from error

    def _graph(self) -> bytes:
        return quantised(super()._graph(), calibration(self.train, self.preprocessing), FIRST_IN_FLOAT[0], "")
