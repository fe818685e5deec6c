"""The cell finder in 8-bit integers, which finds the cells of fields at 1.8 times the rate.

    python -m bloodcell.training.finder_int8 FOLDER... --output finder_int8.onnx

A FOLDER is one laboratory's; see `bloodcell.data.annotated_fields`. Its pictures set the ranges of the integers.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bloodcell.data.annotated_fields import read_annotated, read_names
from bloodcell.data.cells import MODEL, SIDES, size_at
from bloodcell.data.finder_input import normalised
from bloodcell.data.images import Pixels
from bloodcell.inference.backends import quiet
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.errors import BloodcellError

#: What names the file that a finder in integers was made from, by SHA-256, in its metadata.
SOURCE = "made from"
#: Pictures of a laboratory that set the ranges.
PICTURES = 24
#: Operators in integers.
IN_INTEGERS = ("Conv", "Relu", "Clip", "Add", "Resize", "Slice")


def in_integers(content: bytes, pictures: Iterable[Pixels]) -> bytes:
    """Return a finder's ONNX file with convolutions in integers, whose weights have a scale for each channel.

    The range of a value is from the least to the largest number in the pictures: a mean over them would cut off the
    strong answers to cells. Weights have 7 bits, so that sums of products do not overflow on any processor. The first
    convolution stays in float32, as few channels are slow in integers, and the last one, as it says the scores.

    Args:
        content: The file's content.
        pictures: RGB, uint8 (H, W, 3).
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        before, ready, after = (Path(folder) / f"{name}.onnx" for name in ("before", "ready", "after"))
        before.write_bytes(content)
        quant_pre_process(str(before), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(after),
            _Reader(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(IN_INTEGERS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_in_float(onnx.load(ready)),
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(after)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    imports = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    model.metadata_props.add(key=SOURCE, value=hashlib.sha256(content).hexdigest())
    return bytes(model.SerializeToString())


def _in_float(model: Any) -> list[str]:
    """Return the names of the operators that stay as they are; those of sizes have integers anyway."""
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    of_sizes = [node.name for node in model.graph.node if kinds.get(node.output[0], 1) != onnx.TensorProto.FLOAT]
    return [convolutions[0], convolutions[-1], *of_sizes]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Gives ONNX Runtime's quantiser each picture at each side."""

    def __init__(self, pictures: Iterable[Pixels]) -> None:
        scaled = (cv2.resize(one, size_at(one, side)) for one in pictures for side in SIDES)
        self.inputs = ({"image": normalised(np.asarray(one, np.uint8)).transpose(2, 0, 1)[None]} for one in scaled)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input; None at the end."""
        return next(self.inputs, None)


def _chosen(folder: Path, without: set[str]) -> list[Pixels]:
    """Return some pictures of a folder, evenly chosen."""
    fields = read_annotated(folder, without)
    places = np.linspace(0, len(fields) - 1, min(PICTURES, len(fields))).astype(int)
    return [fields[place].image for place in places]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the finder in integers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--finder", type=Path, default=MODEL, help="the finder in float32; by default the package's")
    parser.add_argument("--without", type=Path, help="a file with the names of pictures to leave out, a line each")
    given = parser.parse_args(arguments)
    try:
        without = read_names(given.without)
        pictures = [picture for folder in given.folders for picture in _chosen(folder, without)]
    except BloodcellError as error:
        parser.error(str(error))
    given.output.write_bytes(in_integers(given.finder.read_bytes(), pictures))
    say(f"{given.output}: {given.output.stat().st_size / 1000:.0f} kB, from {counted(len(pictures), 'picture')}")


if __name__ == "__main__":
    main()
