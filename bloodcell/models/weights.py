"""Weights from files: a library's, or those that a run of this package has learned."""

from __future__ import annotations

import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically
from bloodcell.runtime.run_folder import checkpoint_of


def load_state(net: nn.Module, path: Path, name: str, ignore: str) -> None:
    """Load a file of weights, see `read_state`, into a network, but for its classifier.

    `name` is the architecture's, for messages; the names of the classifier's parameters begin with `ignore`.

    Raises:
        BloodcellError: The file is missing, holds no state dict, or one of another architecture.
    """
    # torchvision's own DenseNet files hold `denselayer1.norm.1`, now `norm1`
    older = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
    read = read_state(path).items()
    state = {older.sub(r"\1", key): value for key, value in read if not key.startswith(ignore)}
    fit_state(net, state, str(path), name, ignore)


def fit_state(net: nn.Module, state: dict[str, Tensor], source: str, name: str, ignore: str | None = None) -> None:
    """Load a state dict into a net; raise BloodcellError if it does not fit, batch counters and `ignore` aside."""
    own = {key: value for key, value in net.state_dict().items() if ignore is None or not key.startswith(ignore)}
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    wrong = [key for key in own if key not in state and key not in optional]
    wrong += [key for key in state if key not in own or state[key].shape != own[key].shape]
    if wrong:
        raise BloodcellError(
            f"model.weights={source} is not a {name}: {len(wrong)} tensors do not fit, e.g. {wrong[0]}; "
            "choose the model that it belongs to"
        )
    net.load_state_dict(state, strict=False)


def run_backbone(weights: str | None) -> dict[str, Tensor] | None:
    """Return the backbone's state in a run folder or checkpoint; None if the weights are neither.

    Raises:
        BloodcellError: A folder holds no checkpoint, or a checkpoint cannot be read.
    """
    path = Path(str(weights or "")).expanduser()
    if weights in (None, "DEFAULT") or not (path.is_dir() or path.suffix == ".ckpt"):
        return None
    state, prefix = read_state(checkpoint_of(path) if path.is_dir() else path), "net.backbone."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or None


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, or the one under `state_dict`, without running any code that the file may hold.

    Raises:
        BloodcellError: The file is missing, cannot be read, or holds something else.
    """
    path = path.expanduser()
    if not path.is_file():
        raise BloodcellError(f"no weights file {path}; give an existing one with model.weights=PATH")
    try:
        state = load_safely(path)
    except Exception as error:
        raise BloodcellError(f"model.weights={path} is no file of weights that can be read safely") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise BloodcellError(f"model.weights={path} holds no state dict")
    return state


def load_safely(path: Path) -> Any:
    """Read a file of `torch.save` without running code in it, and refuse one that grows when it is unpacked or copied.

    Raises:
        Exception: It is another file, damaged, or holds more than tensors and plain values.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        archived = file.read(4) == b"PK\3\4"  # torch decides by the same bytes
    if archived and _unpacked(path) > size:
        raise ValueError("a part of it is compressed, which torch.save never does")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if _size(content, {}) > 4 * size:  # a tensor may be there under several names
        raise ValueError("it holds one thing many times")
    return content


def _unpacked(path: Path) -> int:
    """Return how many bytes the parts of an archive have when they are unpacked, as torch's reader sees them."""
    reader: Any = torch._C.PyTorchFileReader(str(path))
    names = reader.get_all_records()
    if hasattr(reader, "get_record_size"):
        return sum(reader.get_record_size(name) for name in names)
    with zipfile.ZipFile(path) as archive:  # torch 2.11 does not tell
        parts = archive.infolist()
    if [part.header_offset for part in parts] != [reader.get_record_header_offset(name) for name in names]:
        raise ValueError("another reader sees other parts in it")
    return sum(part.file_size for part in parts)


def _size(content: Any, known: dict[int, float]) -> float:
    """Return about how many bytes content takes if each mention of a part is a copy; `known` holds it for parts.

    Raises:
        ValueError: A tensor is larger than its storage, has none here, or is not dense.
    """
    if isinstance(content, Tensor):
        size = content.numel() * content.element_size()
        if (
            content.layout != torch.strided
            or content.device.type != "cpu"
            or content.is_quantized
            or content.is_complex()
        ):
            raise ValueError("a tensor is of a kind that no training writes")
        if size > content.untyped_storage().nbytes() or not _is_dense(content):
            raise ValueError("a tensor is larger than what the file holds of it, or has gaps")
        return size
    if not isinstance(content, dict | list | tuple | set):
        return len(content) if isinstance(content, str | bytes) else 1
    if id(content) not in known:
        known[id(content)] = math.inf  # of one that contains itself
        parts = [*content, *content.values()] if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(content)]


def _is_dense(tensor: Tensor) -> bool:
    """Return whether each number has a place, and no place lies between: fused optimizers take it for granted."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and tensor.numel():
            if stride != expected:
                return False
            expected *= size
    return True


def write_checkpoint(content: dict[str, Any], file: Path) -> None:
    """Write a checkpoint with `torch.save`, into memory first: torch's own writer does not name a full disk.

    Raises:
        OSError: The disk is full, or cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(file, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
