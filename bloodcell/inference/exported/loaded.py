"""Running from an exported file: an engine of what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.inference.engine import Engine, Pass
from bloodcell.inference.exported.metadata import About
from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]
Outputs = Mapping[str, Array]

#: Ending -> the module that reads and writes such files.
ENDINGS = {".onnx": "bloodcell.inference.exported.onnx", ".pt2": "bloodcell.inference.exported.torch_export"}


@dataclass(frozen=True)
class Opened:
    """An exported file, ready to run.

    Attributes:
        about: What it says of itself.
        name: Backend, device, precision and release: all that a probability depends on besides file and image.
        streams: How many threads may run it at the same time.
        batch: Images at once, which is the fastest.
        run: uint8 (N, H, W, 3), of any size, to all outputs of the graph.
        fast: uint8 (N, size, size, 3) to logits (N, C) and features (N, F).
    """

    about: About
    name: str
    streams: int
    batch: int
    run: Callable[[Array], Outputs]
    fast: Callable[[Array], tuple[Array, Array]]


def is_exported(file: Path) -> bool:
    """Say whether a file is one that the verb `export` writes, by its ending."""
    return file.suffix.lower() in ENDINGS


def load_exported(file: Path) -> Engine:
    """Load an exported file; nothing else is needed, and no code that it may hold is run.

    It runs on the CPU, as it was exported.

    Raises:
        BloodcellError: It is damaged, another program's, or holds what an exported classifier has no need of.
    """
    return engine_of_opened(opened(file), file)


def opened(file: Path, ending: str = "") -> Opened:
    """Open an exported file.

    Args:
        file: The file.
        ending: What it would end with, where it has a temporary name.

    Raises:
        BloodcellError: See `load_exported`.
    """
    from importlib import import_module

    try:
        found: Opened = import_module(ENDINGS[ending or file.suffix.lower()]).read(file)
        _probe(found)
    except BloodcellError as error:
        raise BloodcellError(f"{file} cannot be used: {error}") from error
    return found


def engine_of_opened(found: Opened, file: Path) -> Engine:
    """Make an engine of an opened file."""

    def run(images: Array) -> tuple[Array, Array]:
        starts = range(0, len(images), found.batch)
        parts = [found.fast(images[start : start + found.batch]) for start in starts]
        logits, features = (np.concatenate(one) for one in zip(*parts, strict=True))
        return _softmax(logits), features

    about, way = found.about, Pass(found.name, found.streams, run)
    return Engine(list(about.classes), about.preprocessing, about.temperature, about.limits, lambda _: way, None, file)


def _softmax(logits: Array) -> Array:
    """Return probabilities at temperature 1, float64 (N, C)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _probe(found: Opened) -> None:
    """Judge two blank images, and refuse a graph whose answers are not those of its description."""
    about, size = found.about, found.about.preprocessing.image_size
    try:
        logits, features = found.fast(np.zeros((2, size, size, 3), np.uint8))
    except Exception as error:
        raise BloodcellError(f"it does not run ({' '.join(str(error).split())[:120]})") from error
    width = features.shape[1] if features.ndim == 2 else 0
    if about.limits is not None and about.limits.means.shape[1] != width:
        raise BloodcellError("its limits are of another net; the file is damaged")
    if logits.shape != (2, len(about.classes)) or not np.isfinite(logits).all() or features.shape != (2, width):
        raise BloodcellError("what it answers does not fit its classes; the file is damaged")
