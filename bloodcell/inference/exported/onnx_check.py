"""The check that an ONNX file, which may be hostile, holds only what an exported classifier needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from bloodcell.inference.exported.metadata import INPUT, KEY, OUTPUTS, UNLIKE, About, read_about
from bloodcell.runtime.errors import BloodcellError

#: Operators that repeat a part of the graph: no backbone has them, and they may never end.
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
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
        if node.domain not in ONNX_DOMAINS or node.op_type in LOOPS:
            raise BloodcellError(f"it needs the operator {node.domain}.{node.op_type}, which no classifier has")
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model.graph)):
        raise BloodcellError("it needs data from other files")
    inputs = [value.name for value in model.graph.input]
    outputs = {value.name for value in model.graph.output}
    if inputs != [INPUT] or outputs not in ({*OUTPUTS}, {*OUTPUTS, UNLIKE}):
        raise BloodcellError("its inputs and outputs are not those of an exported classifier")
    return about


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
