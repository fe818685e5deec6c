"""The LightningDataModule: batches of the training and validation rows of a samples table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from bloodcell.data.loaders import ImageDataset, RowsDataset, image_loader, rows_loader
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import EpochSampler, build_sampler
from bloodcell.data.samples import Samples
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.data import DataConfig

#: Least number of feature rows evaluated at once; the result does not depend on it.
_EVAL_ROWS = 2048


class BloodCellDataModule(pl.LightningDataModule):
    """Batches of images, or of feature rows if they are given.

    Args:
        samples: The samples, each with a split.
        classes: Class names; their positions are the labels in every split.
        preprocessing: The evaluation pipeline.
        data: The `data` group: batch size, workers and sampler.
        seed: Seed of the sampler.
        rows: Pooled features (M, C), or decoded images uint8 (M, H, W, 3): first those of all samples in their order,
            then, for each view, those of the training samples. None: images are decoded in each epoch.
        views: Number of fixed views of each training sample in `rows`; 0: training uses the samples' own rows.
        least: Smallest training batch of a process; batch norm that learns needs 2.
        repeats: Every epoch has the batches of the first, to overfit them.
        own_classes: Training batches have a third part: the classes of each image's set, bool (N, classes).

    Attributes:
        together: Number of training batches of rows that Lightning gets at a time, as a list; 1: one, and no list.
    """

    together = 1

    def __init__(
        self,
        samples: Samples,
        classes: list[str],
        preprocessing: Preprocessing,
        data: DataConfig,
        seed: int = 0,
        rows: Any = None,
        views: int = 0,
        least: int = 1,
        repeats: bool = False,
        own_classes: bool = False,
    ) -> None:
        super().__init__()
        self.samples, self.classes, self.preprocessing = samples, classes, preprocessing
        self.config, self.seed, self.rows, self.views = data, seed, rows, views
        self.least, self.repeats, self.own_classes = least, repeats, own_classes

    def labels(self, samples: Samples) -> Tensor:
        """Return each row's class number, int64 (N,).

        Raises:
            BloodcellError: A class is not among the data module's classes.
        """
        number = {name: i for i, name in enumerate(self.classes)}
        if unknown := sorted(set(samples.table["label"]) - set(number)):
            raise BloodcellError(f"class {named(unknown)} is unknown; the classifier knows {named(number)}")
        return torch.tensor([number[name] for name in samples.table["label"]], dtype=torch.int64)

    def known(self, samples: Samples) -> Tensor:
        """Return whether the set of each row has each class, bool (N, classes)."""
        table = self.samples.table
        has = {str(name): set(labels) for name, labels in table.groupby("set")["label"].unique().items()}
        return torch.tensor([[name in has[str(own)] for name in self.classes] for own in samples.table["set"]])

    def train_dataloader(self) -> Any:
        """Return the training batches in a new random order in each epoch."""
        sampler = build_sampler(self.samples.of_split("train").table, self.config, self.seed)
        sampler.repeats = self.repeats
        trainer: Any = self.trainer
        if trainer is not None:  # in a resumed run, workers start reading before Lightning sets the epoch
            sampler.set_epoch(trainer.fit_loop.epoch_progress.current.processed)
        return self._batches("train", sampler)

    def val_dataloader(self) -> Any:
        """Return the validation batches in the table's order; an empty list without a validation part."""
        return self._batches("val", None) if "val" in self.samples.splits() else []

    def _batches(self, split: str, sampler: EpochSampler | None) -> Any:
        part = self.samples.of_split(split)
        labels, batch_size, least = self.labels(part), self.config.batch_size, self.least if split == "train" else 1
        known = self.known(part) if self.own_classes and split == "train" else None
        if self.rows is None:
            dataset = ImageDataset(part.files(), labels, self.preprocessing, known)
            return image_loader(dataset, batch_size, self.config.workers, sampler, least)
        rows = torch.from_numpy(np.flatnonzero(self.samples.table["split"] == split))[None]
        if split == "train" and self.views:
            rows = len(self.samples.table) + torch.arange(self.views * len(labels)).view(self.views, -1)
        if split != "train" and self.rows.ndim == 2:
            batch_size = max(batch_size, _EVAL_ROWS)
        together = self.together if split == "train" else 1
        return rows_loader(RowsDataset(self.rows, rows, labels, sampler, known), batch_size, least, together)
