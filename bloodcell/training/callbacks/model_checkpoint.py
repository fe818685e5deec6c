"""Lightning's ModelCheckpoint in a run's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning import callbacks

from bloodcell.runtime.io import write_atomically


class ModelCheckpoint(callbacks.ModelCheckpoint):
    """Lightning's, several of which may watch one metric; `best` may have any file names.

    Attributes:
        name: The key in the configuration group.
        chosen: Where a copy of the best file is kept, for those who look for a run's best weights; None: nowhere.
    """

    name = "best"
    chosen: Path | None = None

    @property
    def state_key(self) -> str:
        """Name the state in a checkpoint: `best` and `last` as Lightning does, others apart."""
        return super().state_key + ("" if self.name in ("best", "last") else self.name)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch if it is wanted, and copy the best file if it has another name than the chosen one."""
        super().on_train_epoch_end(trainer, pl_module)
        best = Path(self.best_model_path)
        if self.chosen is None or not trainer.is_global_zero or not best.is_file() or best == self.chosen:
            return
        self.chosen.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.chosen, lambda file: shutil.copyfile(best, file))
