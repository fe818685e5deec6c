"""The LightningDataModule: the training and validation parts of a samples table as batches."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bloodcell.data.loading import EpochShuffle, image_loader, tensor_loader
from bloodcell.data.samples import Samples
from bloodcell.data.transforms import Preprocessing
from bloodcell.errors import BloodcellError


class BloodCellDataModule(pl.LightningDataModule):
    """Wraps a samples table with splits: batches of images, or of features where those are given.

    Args:
        samples: The samples, each with a split.
        classes: Class names; their positions are the labels, whatever split an image is in.
        preprocessing: The evaluation pipeline.
        batch_size: Images in a batch, 1 or more.
        workers: Processes that decode; None: found from the machine.
        seed: Of the shuffling.
        features: Pooled features (N, C) in the order of the samples; None: images are decoded.
    """

    def __init__(
        self,
        samples: Samples,
        classes: list[str],
        preprocessing: Preprocessing,
        batch_size: int = 32,
        workers: int | None = None,
        seed: int = 0,
        features: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(batch_size, int) or batch_size < 1:
            raise BloodcellError(f"data.batch_size={batch_size}; give a whole number of 1 or more")
        if workers is not None and (not isinstance(workers, int) or workers < 0):
            raise BloodcellError(f"data.workers={workers}; give 0 or more, or null")
        self.samples, self.classes, self.preprocessing = samples, classes, preprocessing
        self.batch_size, self.workers, self.seed, self.features = batch_size, workers, seed, features

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
        """Return the training batches, shuffled anew in each epoch."""
        count = int((self.samples.table["split"] == "train").sum())
        return self._batches("train", EpochShuffle(count, self.seed))

    def val_dataloader(self) -> Any:
        """Return the validation batches in the table's order; none where there is no validation part."""
        return self._batches("val", None) if "val" in self.samples.splits() else []

    def _batches(self, split: str, sampler: EpochShuffle | None) -> Any:
        part = self.samples.of_split(split)
        labels = self.labels(part)
        if self.features is not None:
            rows = torch.from_numpy((self.samples.table["split"] == split).to_numpy(copy=True))
            return tensor_loader(self.features[rows], labels, self.batch_size, sampler)
        return image_loader(part.files(), self.preprocessing, self.batch_size, self.workers, labels, sampler)
