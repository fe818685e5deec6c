"""Early stopping that waits until everything learns."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import callbacks

from bloodcell.runtime.errors import BloodcellError


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, which sees no epoch before the last phase of fine-tuning has begun.

    Each block that begins to learn may move the loss either way: an epoch before the last says nothing of the end.
    """

    def _run_early_stopping_check(self, trainer: pl.Trainer) -> None:
        """Look at the epoch; a figure that there is not is the user's mistake."""
        try:
            super()._run_early_stopping_check(trainer)
        except RuntimeError as error:
            raise BloodcellError(f"callbacks.early_stopping: {' '.join(str(error).split())}") from error

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look at the epoch where validation comes once in each."""
        if trainer.current_epoch >= pl_module.last_phase:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look at the epoch where validation comes otherwise."""
        if trainer.current_epoch >= pl_module.last_phase:
            super().on_validation_end(trainer, pl_module)
