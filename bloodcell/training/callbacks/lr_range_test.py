"""The learning-rate range test: each step at a higher rate than the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from scipy.ndimage import gaussian_filter1d

#: A smoothed loss of so many times the lowest one is divergence.
DIVERGED = 4.0


class RangeTest(pl.Callback):
    """Lets the learning rate grow by one factor a step, and keeps the loss of each; ends training where it diverges.

    Args:
        rates: The head's rate of each step.

    Attributes:
        report: Called with the numbers of steps done and of all.
    """

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates
        self.report: Callable[[int, int], None] = lambda done, total: None
        self.shares: list[float] = []
        self.losses: list[list[float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note each group's share of the head's rate, which is the first group's."""
        groups = trainer.optimizers[0].param_groups
        self.shares = [group["lr"] / groups[0]["lr"] for group in groups]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Set the step's rates."""
        for group, share in zip(trainer.optimizers[0].param_groups, self.shares, strict=True):
            group["lr"] = self.rates[trainer.global_step] * share
        if len(self.losses) == trainer.global_step:  # else: one more batch of a step that gathers several
            self.losses.append([])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Keep the loss."""
        self.losses[-1].append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        self.report(len(self.losses), len(self.rates))
        table = self.table()
        smooth = table["smoothed"]
        if len(table) < len(self.losses) or smooth.iloc[-1] > DIVERGED * smooth.min():
            trainer.should_stop = True

    def table(self) -> pd.DataFrame:
        """Return a row per step with a finite loss: lr, loss, smoothed."""
        table = pd.DataFrame({
            "lr": self.rates[: len(self.losses)], "loss": [float(np.mean(values)) for values in self.losses],
        })  # fmt: skip
        finite = table[np.isfinite(table["loss"])]
        return finite.assign(smoothed=smoothed(finite["loss"].to_numpy(), len(self.rates)))


def smoothed(losses: Any, steps: int) -> Any:
    """Return losses (N,) smoothed by a Gaussian of a 25th of all steps: centred, so that it moves nothing aside."""
    return gaussian_filter1d(losses, sigma=steps / 25, mode="nearest") if len(losses) else losses
