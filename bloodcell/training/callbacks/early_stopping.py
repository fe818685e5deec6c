"""Early stopping for gradual fine-tuning."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import callbacks

from bloodcell.runtime.errors import BloodcellError


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping, from the last phase of fine-tuning on.

    A block that begins to learn may raise or lower the loss, so earlier epochs do not count.
    """

    def _run_early_stopping_check(self, trainer: pl.Trainer) -> None:
        """Check the epoch; an unknown metric is the user's mistake."""
        classifier: Any = trainer.lightning_module
        validated = any(name.startswith("val/") for name in trainer.callback_metrics)
        if trainer.current_epoch < classifier.last_phase or not validated:
            return
        try:
            super()._run_early_stopping_check(trainer)
        except RuntimeError as error:
            raise BloodcellError(f"callbacks.early_stopping: {' '.join(str(error).split())}") from error
