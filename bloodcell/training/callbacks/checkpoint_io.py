"""Writing checkpoints atomically: a file is complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

from bloodcell.models.weights import write_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint beside its place and moves it there, so that a kill never leaves half a file.

    Lightning's own first writes it into the system's folder for temporary files, which may be on a smaller disk and
    where a killed process leaves it behind.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the checkpoint."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, file)
