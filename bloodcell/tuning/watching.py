"""A trial's figures of each epoch, for the pruner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from bloodcell.metrics.predictions import predictions_table


class EpochFigures(pl.Callback):
    """Reports a figure of the validation part after each epoch but the last, of the weights that were validated.

    Args:
        rows: The samples of the validation part, in the order in which they are validated.
        figure: Turns a predictions table into a number.
        report: Called with the number and the epoch, from 0; what it raises ends the training.
    """

    def __init__(
        self, rows: pd.DataFrame, figure: Callable[[pd.DataFrame], float], report: Callable[[float, int], None]
    ) -> None:
        self.rows, self.figure, self.report = rows, figure, report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report the epoch; the module has computed its results."""
        if trainer.sanity_checking or trainer.current_epoch + 1 == trainer.max_epochs:
            return
        probabilities = pl_module.results["val"]["logits"].double().softmax(dim=1).cpu().numpy()
        table = predictions_table(self.rows, pl_module.classes, probabilities)
        self.report(self.figure(table), trainer.current_epoch)
