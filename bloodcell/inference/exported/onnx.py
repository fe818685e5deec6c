"""ONNX files: writing them, and reading them so that a hostile one is refused or harmless."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloodcell.inference.backends import BATCH, quiet
from bloodcell.inference.exported.graph import AXES, INPUT, OUTPUTS, UNLIKE, Graph, free_axes, traced
from bloodcell.inference.exported.loaded import Opened, Outputs
from bloodcell.inference.exported.metadata import KEY, About, read_about
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count

Array = np.ndarray[Any, np.dtype[Any]]

#: Bytes of a file that is read; ONNX itself ends at 2 GB.
LARGEST = 2**31
#: Operators that run a part of the graph again and again: no backbone has them, and they may never end.
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})


def written(graph: Graph, about: About) -> bytes:
    """Return an ONNX file of a graph."""
    with quiet():
        program = torch.onnx.export(
            traced(graph),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(graph.outputs),
            dynamic_shapes=free_axes(),  # here for their names
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    del proto.metadata_props[:]
    for node in _nodes(proto.graph):
        del node.metadata_props[:]  # the exporter's notes, with the paths of this machine
    proto.metadata_props.add(key=KEY, value=about.text())
    return bytes(proto.SerializeToString())


def read(file: Path) -> Opened:
    """Open an ONNX file. The bytes that are checked are the bytes that run, and no other file is read for them.

    Raises:
        BloodcellError: It is no such file, or not one that `written` may have returned.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what fails is raised; the logger would say it on top of it
    if file.stat().st_size > LARGEST:
        raise BloodcellError("it is larger than 2 GB")
    model = file.read_bytes()
    about = _about_of(model)
    size = about.preprocessing.image_size

    def session(**sizes: int) -> Any:
        """Open a session for images of one size, which then costs no look at their size; or of any."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # each thread runs batches of its own
        options.log_severity_level = 4
        # else a file with ORTM in its fifth to eighth byte would be run by another reader than it was checked with
        options.add_session_config_entry("session.load_model_format", "ONNX")
        for name, pixels in sizes.items():
            options.add_free_dimension_override_by_name(name, pixels)
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BloodcellError(f"ONNX Runtime refuses it ({' '.join(str(error).split())[:120]})") from error

    fixed = session(**dict.fromkeys(AXES[1:], size))
    names = [output.name for output in fixed.get_outputs()]
    whole: list[Any] = []

    def fast(images: Array) -> tuple[Array, Array]:
        logits, features = fixed.run(OUTPUTS[1:], {INPUT: images})
        return logits, features

    def run(images: Array) -> Outputs:
        if not whole:
            whole.append(session())
        return dict(zip(names, whole[0].run(names, {INPUT: images}), strict=True))

    return Opened(about, f"exported onnx cpu {version('onnxruntime')}", cpu_count(), BATCH["onnx"], run, fast)


def _about_of(content: bytes) -> About:
    """Return the description of a file whose parts are all harmless.

    Raises:
        BloodcellError: It is no ONNX file, or there is anything that an exported classifier has no need of.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:
        raise BloodcellError("it is no ONNX file, or damaged") from error
    told = [entry.value for entry in model.metadata_props if entry.key == KEY]
    about = read_about(told[0] if len(told) == 1 else None)
    if model.functions or model.training_info or any(one.domain not in ("", "ai.onnx") for one in model.opset_import):
        raise BloodcellError("it wants operators that are not ONNX's own")
    for node in _nodes(model.graph):
        if node.domain not in ("", "ai.onnx") or node.op_type in LOOPS:
            raise BloodcellError(f"it wants the operator {node.domain}.{node.op_type}, which no classifier needs")
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model.graph)):
        raise BloodcellError("it wants data of other files")
    inputs = [value.name for value in model.graph.input]
    outputs = {value.name for value in model.graph.output}
    if inputs != [INPUT] or outputs not in ({*OUTPUTS}, {*OUTPUTS, UNLIKE}):
        raise BloodcellError("its inputs and outputs are not those of an exported classifier")
    return about


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and all that its nodes hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in itertools.chain([attribute.g] if attribute.HasField("g") else [], attribute.graphs):
                yield from _graphs(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    for one in _graphs(graph):
        yield from one.node


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every constant of a graph, those inside of sparse ones and of attributes too."""
    for one in _graphs(graph):
        yield from one.initializer
        sparse = list(one.sparse_initializer)
        for node in one.node:
            for attribute in node.attribute:
                yield from itertools.chain([attribute.t], attribute.tensors)
                sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
        for pair in sparse:
            yield from (pair.values, pair.indices)
