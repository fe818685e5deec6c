"""Lightning's rich progress bar on the console that everything else is said on."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from bloodcell.runtime.console import STYLE


class EpochProgress(RichProgressBar):
    """A bar for the epoch that goes on; it vanishes at the end, as `History` has said a line of each epoch."""

    def __init__(self) -> None:
        super().__init__(leave=False, console_kwargs=STYLE)

    def _init_progress(self, trainer: pl.Trainer) -> None:
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.live.transient = True

    def _get_train_description(self, current_epoch: int) -> str:
        """Count epochs from 1, as everything else does."""
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Show no figures in the bar: they have a line of their own."""
        return {}
