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
    "ConstantOfShape", "Conv", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Einsum", "Elu", "Equal", "Erf",
    "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "If",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul",
    "Max", "MaxPool", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear",
    "RMSNormalization", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Selu",
    "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze",
    "Sub", "Sum", "Swish", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
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
    _check_values(model.graph, {}, set())
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model.graph)):
        raise BloodcellError("it needs data from other files")
    inputs = [value.name for value in model.graph.input]
    outputs = {value.name for value in model.graph.output}
    if inputs != [INPUT] or outputs not in ({*OUTPUTS}, {*OUTPUTS, UNLIKE}):
        raise BloodcellError("its inputs and outputs are not those of an exported classifier")
    return about


def _check_values(graph: Any, types: dict[str, int], pixels: set[str]) -> list[tuple[int, bool]]:
    """Refuse what may end the process or take any time: divisions of integers and by attributes, work by pixels.

    A division by 0, or of the least integer by -1, is a signal. If neither a size nor a branch depends on pixels, all
    images take as long as the one that a file is tried with.

    Args:
        graph: A graph, whose own values are forgotten afterwards.
        types: The element type of each value of the outer graphs; 0 is unknown.
        pixels: Their values that depend on those of images.

    Returns:
        The same of the graph's outputs: their types, and whether they depend on pixels.
    """
    own: list[str] = []

    def keep(name: str, kind: int, depends: bool = False) -> None:
        if name in types:
            raise BloodcellError("it makes a value twice")
        types[name] = kind
        own.append(name)
        if depends:
            pixels.add(name)

    for tensor in graph.initializer:
        keep(tensor.name, tensor.data_type)
    for value in graph.input:
        keep(value.name, value.type.tensor_type.elem_type, value.name == INPUT)
    for node in graph.node:
        if any(name and name not in types for name in node.input):
            raise BloodcellError("its operators are not in the order of their work")
        _check_attributes(node)
        inner = [_check_values(one.g, types, pixels) for one in node.attribute if one.HasField("g")]
        for name, (kind, depends) in zip(node.output, _results(node, types, pixels, inner), strict=False):
            if depends and (kind not in _OF_PIXELS or node.op_type == "Range"):
                raise BloodcellError("a size in it depends on pixels, which none of an exported classifier does")
            if name:
                keep(name, kind, depends)
    results = [(types.get(one.name, 0), one.name in pixels) for one in graph.output]
    for name in own:
        del types[name]
        pixels.discard(name)
    return results


#: Attributes by which ONNX Runtime divides, some releases of it without looking.
_DIVISORS = ("strides", "dilations", "kernel_shape", "group", "num_groups", "blocksize", "block_size", "num_outputs")
_UINT8, _INT8, _INT64, _BOOL, _FLOATS = (
    2,
    3,
    7,
    9,
    (1, 10, 11),
)  # of onnx.TensorProto; the floats have 32, 16 and 64 bits
#: Types of values that depend on pixels: sizes have others.
_OF_PIXELS = (_UINT8, _INT8, _BOOL, *_FLOATS)
#: Operators whose result has a type of its own; that of others is the type of their first input, or of their second.
_FIXED = {"Shape": _INT64, **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not"), _BOOL)}

_OF_SECOND = ("Where", "DequantizeLinear")


def _check_attributes(node: Any) -> None:
    if len({one.name for one in node.attribute}) < len(node.attribute):
        raise BloodcellError("an operator in it has an attribute twice")
    for one in node.attribute:
        numbers = one.ints if one.type == one.INTS else [one.i]
        if one.name in _DIVISORS and not all(0 < number < 2**31 for number in numbers):
            raise BloodcellError("an operator in it has an attribute of 0 or less, by which it would divide")


def _results(
    node: Any, types: dict[str, int], pixels: set[str], inner: list[list[tuple[int, bool]]]
) -> list[tuple[int, bool]]:
    """Return the type of each output of a node, and whether it depends on pixels; `inner` are results of branches."""
    depends = node.op_type != "Shape" and not pixels.isdisjoint(node.input)
    if node.op_type == "MaxPool" and len(node.output) > 1:
        raise BloodcellError("it asks for the places of the largest values, which no exported classifier does")
    if inner:
        if depends:
            raise BloodcellError("a branch in it depends on pixels, which none of an exported classifier does")
        known = [
            (kinds[0] if len(set(kinds)) == 1 else 0, any(one for _, one in results))
            for results in zip(*inner, strict=False)
            if (kinds := [kind for kind, _ in results])
        ]
        return known + [(0, depends)] * (len(node.output) - len(known))
    given = [types.get(name, 0) for name in node.input] or [0]
    kind = _FIXED.get(node.op_type, given[1] if node.op_type in _OF_SECOND and len(given) > 1 else given[0])
    if node.op_type == "QuantizeLinear":
        kind = given[2] if len(given) > 2 else _UINT8
    for one in node.attribute:
        if node.op_type in ("Constant", "ConstantOfShape"):
            kind = one.t.data_type if one.HasField("t") and len(node.attribute) == 1 else 0
        elif node.op_type == "Cast" and one.name == "to":
            kind = one.i
    if node.op_type == "Div" and kind not in _FLOATS:
        raise BloodcellError("it divides integers, which no exported classifier does")
    return [(kind, depends)] * len(node.output)


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
