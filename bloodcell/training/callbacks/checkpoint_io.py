"""Writing checkpoints atomically: a file is complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

from bloodcell.models.weights import write_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint into a temporary file beside its place, then renames it.

    Lightning's own uses the system's folder for temporary files, which may be on a smaller disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the checkpoint."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, file)
