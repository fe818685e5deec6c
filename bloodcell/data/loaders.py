"""Batches: of image files, decoded on the way, or of tensors that are in memory already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import EpochSampler
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count

#: Fewer images than this are decoded sooner than worker processes start.
_WORTH_WORKERS = 1000


class ImageDataset(Dataset[Any]):
    """Image files as the net's input.

    Args:
        files: The images.
        preprocessing: The evaluation pipeline.
        labels: int64 (N,), to go with them; None: items are images alone.
    """

    def __init__(self, files: list[Path], preprocessing: Preprocessing, labels: Tensor | None = None) -> None:
        self.files, self.preprocessing, self.labels = files, preprocessing, labels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        """Return uint8 (3, size, size), with its label where there are labels."""
        image = self.preprocessing(self.files[index])
        return image if self.labels is None else (image, self.labels[index])


class EpochBatches(Sampler[Tensor]):
    """Whole batches of positions, so that a batch is one slice of a tensor and not a collation of rows.

    Several processes share each of them: with batches of b, n processes go the way of one with batches of n * b. None
    of them takes an image twice, and all have as many batches: what is left at the end, where it is less than one
    image a process, goes with the batch before.

    Args:
        sampler: Draws the order; None: the items as they stand.
        count: Number of items; with a sampler, its own number of draws counts.
        batch_size: Positions in a batch of one process; the last may be smaller.

    Raises:
        BloodcellError: There are fewer items than processes.
    """

    def __init__(self, sampler: EpochSampler | None, count: int, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.count = count if sampler is None else len(sampler)
        if self.count < (size := distributed.here().size) > 1:
            raise BloodcellError(f"{self.count} images cannot be shared by {size} processes; start fewer")

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this as each one starts."""
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)

    def _sizes(self) -> list[int]:
        """Return the numbers of positions that go together in all processes."""
        whole, left = divmod(self.count, self.batch_size * distributed.here().size)
        sizes = [self.batch_size * distributed.here().size] * whole
        if whole and 0 < left < distributed.here().size:
            return [*sizes[:-1], sizes[-1] + left]
        return [*sizes, left] if left else sizes

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._sizes())

    def __iter__(self) -> Iterator[Tensor]:
        """Yield int64 (batch_size,) positions.

        The order is drawn with the first batch, not before: a resumed run makes its iterator before it sets the epoch.
        """
        order = torch.arange(self.count) if self.sampler is None else self.sampler.order()
        place = distributed.here()
        yield from (together[place.rank :: place.size] for together in torch.split(order, self._sizes()))


class RowsDataset(Dataset[Any]):
    """Rows that are sliced a batch at a time: `dataset[positions]` is (inputs, labels).

    Args:
        inputs: What positions can index: pooled features, in memory or on disk, or uint8 (M, H, W, 3) images.
        where: The row of each item, int64 (views, N): in epoch e the items are those of view e modulo views.
        labels: int64 (N,).
        order: The sampler, which knows the epoch; None: the first view always.
    """

    def __init__(self, inputs: Any, where: Tensor, labels: Tensor, order: EpochSampler | None = None) -> None:
        self.inputs, self.where, self.labels, self.order = inputs, where, labels, order

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.labels)

    def __getitem__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch at some positions, int64 (n,); images as (n, 3, H, W) in channels-last memory."""
        view = self.order.epoch % len(self.where) if self.order is not None else 0
        inputs: Tensor = self.inputs[self.where[view][positions]]
        return inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs, self.labels[positions]


def rows_loader(dataset: RowsDataset, batch_size: int) -> DataLoader[Any]:
    """Return a loader of (inputs, labels), each batch one slice of the rows."""
    batches = EpochBatches(dataset.order, len(dataset), batch_size)
    return DataLoader(dataset, sampler=batches, batch_size=None, generator=_own_generator())


def _own_generator() -> torch.Generator:
    """Return a generator for a loader's worker seeds, which nothing uses, to keep them from the global one."""
    return torch.Generator().manual_seed(0)


def worker_count(workers: int | None, images: int) -> int:
    """Return how many processes decode: as asked for, else one a core where there are enough images."""
    return workers if workers is not None else (min(cpu_count(), 8) if images >= _WORTH_WORKERS else 0)


def image_loader(
    files: list[Path],
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int | None = None,
    labels: Tensor | None = None,
    sampler: EpochSampler | None = None,
) -> DataLoader[Any]:
    """Return a loader of uint8 images (N, 3, size, size), with labels where they are given.

    Args:
        files: The images.
        preprocessing: The evaluation pipeline.
        batch_size: Images in a batch.
        workers: Processes; None: found from the machine.
        labels: int64 (N,).
        sampler: The order; None: as they stand.
    """
    processes = worker_count(workers, len(files))
    batches: dict[str, Any] = {"batch_size": batch_size, "sampler": sampler}
    if distributed.here().size > 1:
        batches = {"batch_sampler": EpochBatches(sampler, len(files), batch_size)}
    return DataLoader(
        ImageDataset(files, preprocessing, labels),
        **batches,
        num_workers=processes,
        persistent_workers=processes > 0 and labels is not None,  # a loader without labels is read once
        pin_memory=torch.cuda.is_available(),
        generator=_own_generator(),
    )
