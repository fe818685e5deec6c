"""The LightningDataModule: the training and validation parts of a samples table as batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from bloodcell.data.loaders import RowsDataset, image_loader, rows_loader
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import EpochSampler, build_sampler
from bloodcell.data.samples import Samples
from bloodcell.runtime.errors import BloodcellError

#: Rows of features that are evaluated at once; the result does not depend on it.
EVALUATED = 2048


class BloodCellDataModule(pl.LightningDataModule):
    """Wraps a samples table with splits: batches of images, or of rows where those are given.

    Args:
        samples: The samples, each with a split.
        classes: Class names; their positions are the labels, whatever split an image is in.
        preprocessing: The evaluation pipeline.
        batch_size: Images in a batch, 1 or more.
        workers: Processes that decode; None: found from the machine.
        seed: Of the shuffling.
        sampling: What an epoch trains on; see `build_sampler`, with balance and epoch_size.
        balance: See there.
        epoch_size: See there.
        rows: Pooled features (M, C), or decoded images uint8 (M, H, W, 3): first those of the samples in their
            order, then, for each view, those of the training samples. None: images are decoded in each epoch.
        views: Fixed views of each training sample among the rows; 0: training takes the samples' own rows.
    """

    def __init__(
        self,
        samples: Samples,
        classes: list[str],
        preprocessing: Preprocessing,
        batch_size: int = 32,
        workers: int | None = None,
        seed: int = 0,
        sampling: str = "files",
        balance: float = 1.0,
        epoch_size: int | None = None,
        rows: Any = None,
        views: int = 0,
    ) -> None:
        super().__init__()
        self.sampling: dict[str, Any] = {"sampling": sampling, "balance": balance, "epoch_size": epoch_size}
        self.samples, self.classes, self.preprocessing = samples, classes, preprocessing
        self.batch_size, self.workers, self.seed, self.rows, self.views = batch_size, workers, seed, rows, views

    def labels(self, samples: Samples) -> Tensor:
        """Return each row's class number, int64 (N,), by name.

        Raises:
            BloodcellError: A class is not among the classes.
        """
        number = {name: i for i, name in enumerate(self.classes)}
        if unknown := sorted(set(samples.table["label"]) - set(number)):
            raise BloodcellError(f"class {', '.join(unknown)} is unknown; the classifier knows {', '.join(number)}")
        return torch.tensor([number[name] for name in samples.table["label"]], dtype=torch.int64)

    def train_dataloader(self) -> Any:
        """Return the training batches, drawn anew in each epoch."""
        sampler = build_sampler(self.samples.of_split("train").table, self.seed, **self.sampling)
        trainer: Any = self.trainer
        if trainer is not None:  # of a resumed run worker processes begin to read before Lightning sets the epoch
            sampler.set_epoch(trainer.fit_loop.epoch_progress.current.processed)
        return self._batches("train", sampler)

    def val_dataloader(self) -> Any:
        """Return the validation batches in the table's order; none where there is no validation part."""
        return self._batches("val", None) if "val" in self.samples.splits() else []

    def _batches(self, split: str, sampler: EpochSampler | None) -> Any:
        part = self.samples.of_split(split)
        labels = self.labels(part)
        if self.rows is not None:
            where = torch.from_numpy(np.flatnonzero(self.samples.table["split"] == split))[None]
            if split == "train" and self.views:
                where = len(self.samples.table) + torch.arange(self.views * len(labels)).view(self.views, -1)
            batch_size = self.batch_size if split == "train" or self.rows.ndim > 2 else max(self.batch_size, EVALUATED)
            return rows_loader(RowsDataset(self.rows, where, labels, sampler), batch_size)
        return image_loader(part.files(), self.preprocessing, self.batch_size, self.workers, labels, sampler)
