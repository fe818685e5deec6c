"""Files of torch.export: writing them without a pickle, and reading them so that a hostile one is refused.

`torch.export.load` unpickles whatever a file asks it to, resolves any function that can be reached from `torch`, has
sympy evaluate text, and loads compiled libraries. A file is therefore read with the loader's own reader and compared
with what `written` writes: named parts alone, tensors as raw bytes, no example inputs, no code, and of operators only
those that compute tensors of tensors. The loader is handed an archive of just these parts, written anew: of a file that
was made for it, two readers of archives see different parts, and the loader has two.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloodcell.inference.backends import BATCH
from bloodcell.inference.exported.graph import OUTPUTS, UNLIKE, Graph, traced
from bloodcell.inference.exported.loaded import Opened, Outputs
from bloodcell.inference.exported.metadata import KEY, About, read_about
from bloodcell.models.weights import refuse_inflated
from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]

#: Bytes of a file that is read.
LARGEST = 2**33

_EXTRA = f"{KEY}.json"
_PROGRAM = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PARTS = re.compile(
    r"(?:\.data/)?(?:version|byteorder|archive_format|archive_version|serialization_id|\.format_version"
    r"|\.storage_alignment)|data/weights/weight_\d+|data/constants/tensor_\d+"
    + "".join(f"|{re.escape(name)}" for name in (f"extra/{_EXTRA}", _PROGRAM, _EXAMPLES, *_CONFIGS))
)
_WRITERS_OWN = ("version", ".data/serialization_id")  # which it adds by itself
#: Text of a program: names, and sizes as sympy writes them. Neither holds a quoted text but the name of a size.
_NAME = re.compile(r"[\w.:+]{0,300}")
_SIZE = re.compile(
    r"(?:(?:Add|Mul|Integer|Rational|Equality|Unequality|And|Or|Not|Max|Min|FloorDiv|Mod|PythonMod|CleanDiv)\("
    r"|Symbol\('[su]\d{1,6}'(?:, (?:positive|integer|nonnegative)=True)*\)|-?\d{1,12}|[(), ]){1,1000}"
)
_LAYOUT = re.compile(
    r'(?:"(?:type|context|children_spec|builtins\.tuple|builtins\.dict|null|\[\])"|null|[\[\]{}1:, ]){1,2000}'
)
#: What JSON has no numbers for; attention masks with the second.
_NO_NUMBERS = ("Infinity", "-Infinity", "NaN")
#: Keys of arguments that would be resolved to a function or an object.
_FORBIDDEN = {"as_operator", "as_custom_obj", "custom_obj", "as_string_to_argument", "token", "as_opaque_obj"}
_ARITHMETIC = {f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "eq", "ne", "and_", "getitem")}
#: Of ATen's operators those that all backbones are reduced to, and those few that some keep besides.
_KEPT = {
    "_assert_tensor_metadata.default",
    "_assert_scalar.default",
    "_scaled_dot_product_flash_attention_for_cpu.default",
    "adaptive_max_pool2d.default",
}


def written(graph: Graph, about: About) -> bytes:
    """Return a file of torch.export of a graph."""
    program = traced(graph).run_decompositions()
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", []):
            for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom"):
                node.meta.pop(note, None)  # with the paths of this machine
    program.example_inputs = None  # they would be pickled
    program._guards_code = []
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # of tensors with channels last
        torch.export.save(program, buffer, extra_files={_EXTRA: about.text()})
    return buffer.getvalue()


def read(file: Path) -> Opened:
    """Open a file of torch.export. The parts that are checked are the parts that run.

    Raises:
        BloodcellError: It is no such file, or not one that `written` may have returned.
    """
    if file.stat().st_size > LARGEST:
        raise BloodcellError(f"it is larger than {LARGEST >> 30} GB")
    about, archive = _checked(file.read_bytes())
    logging.getLogger("torch.export").setLevel(logging.CRITICAL)  # what fails is raised; it would say it on top of it
    try:
        module: Any = torch.export.load(_anew(archive)).module(check_guards=False)
    except Exception as error:
        raise BloodcellError(f"torch.export of torch {version('torch')} refuses it; export it anew") from error
    names = OUTPUTS if about.limits is None else (*OUTPUTS, UNLIKE)

    def run(images: Array) -> Outputs:
        with torch.inference_mode():
            return dict(zip(names, (one.numpy() for one in module(torch.from_numpy(images))), strict=True))

    def fast(images: Array) -> tuple[Array, Array]:
        found = run(images)
        return found["logits"], found["features"]

    return Opened(about, f"exported torch cpu {version('torch')}", 1, BATCH["eager"], run, fast)


def _checked(content: bytes) -> tuple[About, Any]:
    """Return the description of a file whose parts are all harmless, and the reader of these parts.

    Raises:
        BloodcellError: It is no such file, or there is anything that `written` does not write.
    """
    try:
        archive: Any = torch._C.PyTorchFileReader(io.BytesIO(content))  # the loader's own
        parts = archive.get_all_records()
        refuse_inflated(archive, len(content))
        extra, program, *configs = (
            json.loads(archive.get_record(name)) if name in parts else None
            for name in (f"extra/{_EXTRA}", _PROGRAM, *_CONFIGS)
        )
        examples = archive.get_record_size(_EXAMPLES) if _EXAMPLES in parts else -1
    except (RuntimeError, ValueError, RecursionError) as error:
        raise BloodcellError("it is no file of torch.export, or damaged") from error
    about = read_about(json.dumps(extra))
    if unknown := [name for name, count in Counter(parts).items() if count > 1 or not _PARTS.fullmatch(name)]:
        raise BloodcellError(f"it holds {unknown[0][:60]}, which bloodcell does not export")
    if examples or not isinstance(program, dict) or not all(_raw(config) for config in configs):
        raise BloodcellError("it holds pickled objects, which may run any code")
    if reason := "code" if program.get("guards_code") else _stranger(program, ""):
        raise BloodcellError(f"it holds {reason}, which bloodcell does not export")
    return about, archive


def _anew(archive: Any) -> io.BytesIO:
    """Return an archive of the parts that a reader sees."""
    content = io.BytesIO()
    writer: Any = torch._C.PyTorchFileWriter(content)
    for name in archive.get_all_records():
        if name not in _WRITERS_OWN:
            part = archive.get_record(name)
            writer.write_record(name, part, len(part))
    writer.write_end_of_file()
    content.seek(0)
    return content


def _raw(config: Any) -> bool:
    """Say whether a list of tensors names raw ones alone."""
    try:
        metas = config["config"].values()
        return all(meta["use_pickle"] is False and _TENSOR.fullmatch(meta["path_name"]) for meta in metas)
    except (TypeError, KeyError, AttributeError):
        return False


_TENSOR = re.compile(r"(?:weight|tensor)_\d+")


def _stranger(part: Any, key: str) -> str | None:
    """Return what a part of a program holds that no exported classifier has; None where there is nothing.

    Args:
        part: Of the program, from JSON.
        key: Under which it lies in what it is a part of.
    """
    if isinstance(part, dict):
        if odd := [name for name in part if name in _FORBIDDEN or not _NAME.fullmatch(name)]:
            return f"an argument {odd[0][:40]!r}"
        inside: Any = part.items()
    elif isinstance(part, list):
        inside = ((key, one) for one in part)
    elif isinstance(part, str) and not _known(part, key):
        return f"{part[:60]!r}"
    else:
        return None
    return next((found for name, one in inside if (found := _stranger(one, name))), None)


def _known(text: str, key: str) -> bool:
    """Say whether a text of a program is one that needs no trust."""
    if key == "target":
        return text in _ARITHMETIC or text == "torch.ops.higher_order.cond" or _computes(text)
    if key in ("as_float", "as_floats"):
        return text in _NO_NUMBERS
    if key == "expr_str":
        return bool(_SIZE.fullmatch(text))
    if key in ("in_spec", "out_spec"):
        return bool(_LAYOUT.fullmatch(text))
    return bool(_NAME.fullmatch(text))


def _computes(target: str) -> bool:
    """Say whether an operator is of the core of ATen, which computes tensors of tensors and does nothing else."""
    if not (match := re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)):
        return False
    operator = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    return f"{match[1]}.{match[2]}" in _KEPT or torch.Tag.core in getattr(operator, "tags", ())
