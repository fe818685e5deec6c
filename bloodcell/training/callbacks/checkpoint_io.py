"""Writing checkpoints atomically: a file is complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

from bloodcell.models.weights import write_checkpoint
from bloodcell.runtime.errors import BloodcellError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint into a temporary file beside its place, then renames it; removes only what it wrote.

    Lightning's own uses the system's folder for temporary files, which may be on a smaller disk, and removes whatever
    file or folder a callback names.

    Attributes:
        state: What a training continues from, checked: it is restored in place of the file's content.
    """

    state: dict[str, Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.written: set[Path] = set()

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the checked state."""
        if self.state is None:
            raise BloodcellError(f"{path}: only a checked checkpoint is continued from")
        return self.state

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the checkpoint."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, file)
        self.written.add(file)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint of this training; leave anything else."""
        if Path(path) in self.written:
            Path(path).unlink(missing_ok=True)
