"""The progress of an epoch."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl

from bloodcell.data.loaders import Several
from bloodcell.runtime.console import Advance, progress


class EpochProgress(pl.Callback):
    """Shows which epoch runs, how many of its batches are done, and their rate; `History` prints a line per epoch."""

    def __init__(self) -> None:
        self.shown = ExitStack()
        self.advance: Advance = lambda done, total, what=None: None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin before the data are read, which `BloodCellDataModule` may still have to do."""
        self.shown.close()
        self.advance = self.shown.enter_context(progress("training"))

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Show the training batches of the epoch, of which Lightning may get several at a time."""
        *_, number = args
        done, total = number + 1, trainer.num_training_batches
        sampler = getattr(trainer.train_dataloader, "sampler", None)
        if isinstance(sampler, Several):
            total = len(sampler.batches)
            done = min(done * sampler.count, total)
        epochs = trainer.max_epochs
        of_all = f"/{epochs}" if epochs and epochs > 0 else ""
        self._show(done, total, f"epoch {trainer.current_epoch + 1}{of_all}, batches")

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Show the validation batches of the epoch."""
        number = args[3]
        self._show(number + 1, sum(trainer.num_val_batches), "validation, batches")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End with the training."""
        self.shown.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End with an error, which Lightning raises without a teardown."""
        self.shown.close()

    def _show(self, done: int, total: float, what: str) -> None:
        self.advance(done, int(total) if total != float("inf") else None, what)
