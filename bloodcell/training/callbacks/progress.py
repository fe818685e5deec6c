"""Lightning's progress bar on the shared console."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from bloodcell.runtime.console import STYLE


class EpochProgress(RichProgressBar):
    """A progress bar of the running epoch, which vanishes at the end: `History` prints a line per epoch."""

    def __init__(self) -> None:
        super().__init__(leave=False, console_kwargs=STYLE)

    def _init_progress(self, trainer: pl.Trainer) -> None:
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.live.transient = True

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Show no metrics in the bar."""
        return {}
