"""An exported ONNX graph in 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.inference.backends import quiet
from bloodcell.inference.exported.metadata import INPUT, KEY

Array = np.ndarray[Any, np.dtype[Any]]

#: Operators in integers. Clip and Relu need no step of their own: the range of the integers does what they do.
IN_INTEGERS = ("Conv", "Clip", "Relu", "Add", "MaxPool")
FEATURES = "features"


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
