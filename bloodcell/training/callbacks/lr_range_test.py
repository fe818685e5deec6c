"""The losses of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from scipy.ndimage import gaussian_filter1d

#: Training has diverged if the smoothed loss is this many times the lowest one.
DIVERGED = 4.0


class RangeTest(pl.Callback):
    """Records the loss of each step while the scheduler raises the learning rate; ends training that diverges.

    `rates` are the head's, and `report` is called with the numbers of steps done and of all.
    """

    def __init__(self, rates: list[float], report: Callable[[int, int], None] = lambda done, total: None) -> None:
        self.rates, self.report = rates, report
        self.losses: list[float] = []
        self.batches: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss; a step may accumulate the gradients of several batches."""
        self.batches.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        if trainer.global_step == len(self.losses):
            return
        self.losses.append(fmean(self.batches))
        self.batches.clear()
        self.report(len(self.losses), len(self.rates))
        smooth = self.table()["smoothed"]
        if len(smooth) < len(self.losses) or smooth.iloc[-1] > DIVERGED * smooth.min():
            trainer.should_stop = True

    def table(self) -> pd.DataFrame:
        """Return columns lr, loss and smoothed, a row per step with a finite loss."""
        table = pd.DataFrame({"lr": self.rates[: len(self.losses)], "loss": self.losses}, dtype=float)
        table = table[np.isfinite(table["loss"])]
        return table.assign(smoothed=smoothed(table["loss"].to_numpy(), len(self.rates)))


def smoothed(losses: Any, steps: int) -> Any:
    """Return losses (N,) smoothed by a centred Gaussian with sigma a 25th of all steps."""
    return gaussian_filter1d(losses, sigma=steps / 25, mode="nearest") if len(losses) else losses
