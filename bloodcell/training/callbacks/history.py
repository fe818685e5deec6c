"""The history of a run: a row per epoch."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger

from bloodcell.metrics.confusions import MOST
from bloodcell.runtime.io import write_csv
from bloodcell.training.callbacks.tensorboard import tag_of


class History(Checkpoint):
    """Writes each epoch's losses and scores to a file, the checkpoint, the terminal and every logger.

    Of more than `MOST` classes, loggers do not get the F1 of each: it would be a chart each.
    It is a `Checkpoint` because Lightning calls those last in an epoch, when every metric is known. Placed before
    ModelCheckpoint, its rows are part of the checkpoint, from which a resumed run continues them. The CSV file is
    rewritten after each epoch, and `say` is called with a line on it.
    """

    def __init__(self, file: Path, say: Any) -> None:
        self.file, self.say = file, say
        self.rows: list[dict[str, float]] = []
        self.started, self.rates = 0.0, dict[str, float]()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the rows of the resumed run."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the time and the learning rates at the start of the epoch."""
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
        many = len(pl_module.classes) > MOST  # history.csv has the F1 of each; a class without images has none
        hidden = {name for name, value in metrics.items() if "/f1_" in name and (many or math.isnan(value))}
        shown = {name: value for name, value in metrics.items() if name not in hidden}
        values = {**shown, **self.rates, "images_per_second": images / seconds}
        for logger in trainer.loggers:
            named = {tag_of(name): value for name, value in values.items()}
            shown_there = named if isinstance(logger, TensorBoardLogger) else values
            logger.log_metrics(shown_there, step=trainer.current_epoch + 1)
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
    for name in ("loss", "accuracy"):
        shown = [_shown(name, row[f"{split}/{name}"]) for split in ("train", "val") if f"{split}/{name}" in row]
        parts.append(" ".join([name, *shown[:1], *(f"(val {value})" for value in shown[1:])]))
    return "  ".join([*parts, f"{seconds:.1f} s"])


def _shown(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "loss" else f"{100 * value:5.1f} %"
