"""The history of a run: one row an epoch, in a file, in the checkpoint, on the terminal and in every logger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from bloodcell.runtime.io import write_csv


class History(Checkpoint):
    """Keeps each epoch's losses and scores.

    It is a `Checkpoint` because Lightning calls those last in an epoch, when every metric is known, and in the order
    given: placed before ModelCheckpoint, its rows are part of the checkpoint, so a resumed run goes on with exactly
    the rows that belong to it and each epoch stands in the file once.

    Args:
        file: The CSV file, rewritten after each epoch.
        say: Called with one line an epoch; None: silence.
    """

    def __init__(self, file: Path, say: Any = None) -> None:
        self.file, self.say = file, say
        self.rows: list[dict[str, float]] = []
        self.started, self.rates = 0.0, dict[str, float]()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as plain values."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the rows of the run that is resumed."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock and note the learning rates that the epoch begins with."""
        self.started, self.rates = time.perf_counter(), learning_rates(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Add the epoch's row."""
        metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": trainer.current_epoch + 1, **metrics, **self.rates})
        if not trainer.is_global_zero:
            return
        write_csv(pd.DataFrame(self.rows), self.file)
        seconds = time.perf_counter() - self.started
        images = len(pl_module.results["train"]["labels"])
        for logger in trainer.loggers:
            logger.log_metrics(
                {**metrics, **self.rates, "images_per_second": images / seconds}, step=trainer.current_epoch + 1
            )
        if self.say:
            self.say(epoch_line(self.rows[-1], trainer.max_epochs, seconds))


def learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    """Return the learning rate of each parameter group, under `lr` or `lr/GROUP`."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    if len(groups) == 1:
        return {"lr": float(groups[0]["lr"])}
    return {f"lr/{group.get('name', number)}": float(group["lr"]) for number, group in enumerate(groups)}


def epoch_line(row: dict[str, float], epochs: int | None, seconds: float) -> str:
    """Return the line that is printed after an epoch."""
    parts = [f"epoch {row['epoch']:>3.0f}/{epochs}" if epochs and epochs > 0 else f"epoch {row['epoch']:>3.0f}"]
    for split, name in (("train", "train"), ("val", "validation")):
        if f"{split}/loss" in row:
            parts.append(f"{name} loss {row[f'{split}/loss']:.3f} accuracy {100 * row[f'{split}/accuracy']:5.1f} %")
    return "   ".join([*parts, f"{seconds:.1f} s"])
