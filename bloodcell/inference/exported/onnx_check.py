"""The check that an ONNX file, which may be hostile, holds only what an exported classifier needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from bloodcell.inference.exported.metadata import INPUT, KEY, OUTPUTS, UNLIKE, About, read_about
from bloodcell.runtime.errors import BloodcellError

#: Operators of exported classifiers: of the resizing, of the shipped backbones and of others like them. None repeats a
#: part of the graph, and none makes a size of a pixel's value.
OPERATORS = frozenset((
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "CumSum", "DepthToSpace", "Div", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "If",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul",
    "Max", "MaxPool", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "RMSNormalization",
    "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign",
    "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish",
    "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
))  # fmt: skip
ONNX_DOMAINS = ("", "ai.onnx")


def checked(content: bytes) -> About:
    """Return the description in an ONNX file.

    Raises:
        BloodcellError: It is not an ONNX file, or it holds anything that an exported classifier does not need.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:
        raise BloodcellError("it is no ONNX file, or damaged") from error
    described = [entry.value for entry in model.metadata_props if entry.key == KEY]
    about = read_about(described[0] if len(described) == 1 else None)
    if model.functions or model.training_info or any(one.domain not in ONNX_DOMAINS for one in model.opset_import):
        raise BloodcellError("it needs operators that are not ONNX's own")
    for node in nodes(model.graph):
        if node.domain not in ONNX_DOMAINS or node.op_type not in OPERATORS:
            name = f"{node.domain}.{node.op_type}"[:60]
            raise BloodcellError(f"it needs the operator {name}, which no exported classifier has")
    _check_values(model.graph, {}, {INPUT})
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model.graph)):
        raise BloodcellError("it needs data from other files")
    inputs = [value.name for value in model.graph.input]
    outputs = {value.name for value in model.graph.output}
    if inputs != [INPUT] or outputs not in ({*OUTPUTS}, {*OUTPUTS, UNLIKE}):
        raise BloodcellError("its inputs and outputs are not those of an exported classifier")
    return about


def _check_values(graph: Any, types: dict[str, int], pixels: set[str]) -> None:
    """Refuse divisions of integers, and sizes that depend on pixels: they may end the process, or never end.

    A division by 0, or of the least integer by -1, is a signal. `types` has the element type of each value, `pixels`
    the values that depend on those of images; what is known of the outer graph is given, and that of this one added.
    """
    from onnx import TensorProto as Types

    types.update({one.name: one.data_type for one in graph.initializer})
    types.update({one.name: one.type.tensor_type.elem_type for one in graph.input})
    fixed = {"Shape": Types.INT64, **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "Not"), Types.BOOL)}
    for node in graph.node:
        given = [types.get(name, 0) for name in node.input] or [0]
        kind = fixed.get(node.op_type, given[1] if node.op_type == "Where" and len(given) > 1 else given[0])
        depends = node.op_type != "Shape" and not pixels.isdisjoint(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _check_values(attribute.g, types, pixels)
                results = [one.name for one in attribute.g.output]
                kind, depends = types.get(results[0], 0) if results else 0, depends or not pixels.isdisjoint(results)
            elif attribute.HasField("t"):
                kind = attribute.t.data_type
            elif node.op_type == "Cast" and attribute.name == "to":
                kind = attribute.i
        if node.op_type == "Div" and kind not in (Types.FLOAT, Types.DOUBLE, Types.FLOAT16):
            raise BloodcellError("it divides integers, which no exported classifier does")
        if depends and (node.op_type == "Range" or (node.op_type == "Cast" and kind in (Types.INT32, Types.INT64))):
            raise BloodcellError("it makes sizes of the values of pixels, which no exported classifier does")
        types.update(dict.fromkeys(node.output, kind))
        pixels.update(node.output if depends else ())


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in itertools.chain([attribute.g] if attribute.HasField("g") else [], attribute.graphs):
                yield from _graphs(inner)


def nodes(graph: Any) -> Iterator[Any]:
    """Yield every node of a graph, also those inside branches."""
    for one in _graphs(graph):
        yield from one.node


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every constant of a graph, also those inside sparse tensors and attributes."""
    for one in _graphs(graph):
        yield from one.initializer
        sparse = list(one.sparse_initializer)
        for node in one.node:
            for attribute in node.attribute:
                yield from itertools.chain([attribute.t], attribute.tensors)
                sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
        for pair in sparse:
            yield from (pair.values, pair.indices)
