"""The formats of exported files: how each is written, and how another program runs it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bloodcell.exports.graph import Graph, free_axes, traced
from bloodcell.inference.backends import quiet
from bloodcell.inference.exported.metadata import INPUT, KEY, About
from bloodcell.inference.exported.onnx_check import nodes

Array = np.ndarray[Any, np.dtype[Any]]
#: From uint8 images (N, H, W, 3), RGB, of any size, to calibrated probabilities (N, C).
Probabilities = Callable[[Array], Array]


@dataclass(frozen=True)
class Format:
    """A format of exported files."""

    ending: str  # of its files; '' of a folder
    write: Callable[[Graph, About], bytes]  # returns the content of the file
    run: Callable[[bytes], Probabilities]  # of a file that was just written: torch.export unpickles what it reads
    kind: str = "onnx"  # of the file with the net: onnx or torch
    alone: bool = True  # that file is all there is, with a model card beside it; else it is one of a package

    @property
    def net_ending(self) -> str:
        """Ending of the file with the net."""
        return {"onnx": ".onnx", "torch": ".pt2"}[self.kind]


def _write_onnx(graph: Graph, about: About) -> bytes:
    with quiet():
        program = torch.onnx.export(
            traced(graph),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(graph.outputs),
            dynamic_shapes=free_axes(),  # for their names
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    del proto.metadata_props[:]
    for node in nodes(proto.graph):
        del node.metadata_props[:]  # the exporter's notes, which hold paths of this machine
    proto.metadata_props.add(key=KEY, value=about.text())
    return bytes(proto.SerializeToString())


def _run_onnx(content: bytes) -> Probabilities:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["probabilities"], {INPUT: images})[0])


def _write_torch(graph: Graph, about: About) -> bytes:
    program = traced(graph).run_decompositions()
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", []):
            for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom"):
                node.meta.pop(note, None)  # they hold paths of this machine
    program.example_inputs = None  # they would be pickled
    program._guards_code = []
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # about channels-last tensors
        torch.export.save(program, buffer, extra_files={f"{KEY}.json": about.text()})
    return buffer.getvalue()


def _run_torch(content: bytes) -> Probabilities:
    module = torch.export.load(io.BytesIO(content)).module()

    def run(images: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images))[0])

    return run


#: Value of the setting `format` -> the format.
FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _run_onnx),
    "torch": Format(".pt2", _write_torch, _run_torch, kind="torch"),
    "huggingface": Format("", _write_onnx, _run_onnx, alone=False),
    "bioimageio": Format(".zip", _write_onnx, _run_onnx, alone=False),
}
