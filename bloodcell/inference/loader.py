"""Several trained classifiers as one: which they are, and what they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloodcell.inference.engine import Engine, engine_of
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import listed
from bloodcell.runtime.errors import BloodcellError


def load_members(given: Any) -> dict[Path, Any]:
    """Load the classifiers of one run folder, checkpoint or exported file, or of several.

    Args:
        given: A run folder, a .ckpt file or an exported one, or a list of them.

    Returns:
        File -> classifier, or engine of an exported file, in the order given; one or more.

    Raises:
        BloodcellError: A checkpoint is missing, damaged or named twice, or the classes differ.
    """
    checkpoints = [run_folder.checkpoint_of(Path(str(one)).expanduser()) for one in listed(given)]
    if not checkpoints:
        raise BloodcellError("checkpoint=[] names nothing; give run folders, .ckpt or .onnx files")
    if len({checkpoint.resolve() for checkpoint in checkpoints}) < len(checkpoints):
        raise BloodcellError(f"checkpoint: one is named twice in {', '.join(map(str, checkpoints))}; name each once")
    members = {checkpoint: _loaded(checkpoint) for checkpoint in checkpoints}
    first, *others = members
    for other in others:
        if set(members[other].classes) != set(members[first].classes):
            known = [f"{one} knows {', '.join(sorted(members[one].classes))}" for one in (first, other)]
            raise BloodcellError(f"only classifiers of the same classes go together: {'; '.join(known)}")
    return members


def load_engines(given: Any, device: str, backend: str = "auto", precision: str = "float32") -> list[Engine]:
    """Load the classifier of one run folder, checkpoint or exported file, or several of the same classes.

    Args:
        given: A run folder, a .ckpt file or an exported one, or a list of them.
        device: Where to compute. An exported file computes as it was exported, whatever this and the next two say.
        backend: See `engine_of`.
        precision: See `engine_of`.

    Raises:
        BloodcellError: A checkpoint is missing, damaged or named twice, or the classes differ; or there is no such
            backend.
    """
    members = load_members(given)
    return [
        one if isinstance(one, Engine) else engine_of(one, device, backend, precision, file)
        for file, one in members.items()
    ]


def _loaded(file: Path) -> Any:
    """Load what a file holds: as its ending says, an exported classifier or a checkpoint."""
    from bloodcell.inference.exported.onnx_engine import is_exported, load_exported

    if is_exported(file):
        return load_exported(file)
    from bloodcell.models.classifier import load_classifier  # with Lightning, which an exported file does without

    return load_classifier(file)
