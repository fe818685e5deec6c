"""Batches of image files, decoded by worker processes, or of rows in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import EpochSampler
from bloodcell.data.time_limit import watch_worker
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count

#: Fewer images than this are decoded before worker processes have started.
_WORTH_WORKERS = 1000

CPU = torch.device("cpu")


class ImageDataset(Dataset[Any]):
    """Image files as the net's input, uint8 (3, size, size), each with its label from int64 (N,).

    If they are given, the classes that it may have are third, from bool (N, classes).

    An ImageError of a file that cannot be read any more names it and says how to go on.
    """

    def __init__(
        self, files: list[Path], labels: Tensor, preprocessing: Preprocessing, known: Tensor | None = None
    ) -> None:
        self.files, self.preprocessing = files, preprocessing
        self.targets = (labels,) if known is None else (labels, known)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        try:
            return self.preprocessing(self.files[index]), *(target[index] for target in self.targets)
        except ImageError as error:  # all were decoded before the training
            hint = "restore the file and go on with resume=RUN, or start again with data.on_bad_image=skip"
            raise ImageError(f"{error}; it was readable when the training began: {hint}") from None


class EpochBatches(Sampler[Tensor]):
    """Positions of whole batches, int64 (batch_size,), so that a batch is one slice of a tensor.

    Several processes share the batches: n processes with batches of b take the same steps as one process with batches
    of n * b. No image is used twice, and all processes have the same number of batches: if fewer images than processes
    are left at the end, they are added to the batch before; so are fewer than `least` for each process. Without a
    sampler, the `count` items keep their order. The positions of an epoch are moved to `device` at once.

    Raises:
        BloodcellError: There are fewer items than processes.
    """

    def __init__(
        self, sampler: EpochSampler | None, count: int, batch_size: int, least: int = 1, device: torch.device = CPU
    ) -> None:
        self.sampler, self.batch_size, self.least, self.device = sampler, batch_size, least, device
        self.count = count if sampler is None else len(sampler)
        if self.count < (processes := distributed.here().size) > 1:
            raise BloodcellError(f"{self.count} images cannot be shared by {processes} processes; start fewer")

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this at the start of each epoch."""
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)

    def _sizes(self) -> list[int]:
        """Return the sizes of the batches of all processes together."""
        processes = distributed.here().size
        size = self.batch_size * processes
        whole, left = divmod(self.count, size)
        if whole and 0 < left < self.least * processes:
            return [size] * (whole - 1) + [size + left]
        return [size] * whole + ([left] if left else [])

    def __len__(self) -> int:
        return len(self._sizes())

    def __iter__(self) -> Iterator[Tensor]:
        # drawn with the first batch and not before: a resumed run creates its iterator before it sets the epoch
        order = torch.arange(self.count) if self.sampler is None else self.sampler.order()
        process = distributed.here()
        batches = torch.split(order.to(self.device), self._sizes())
        yield from (batch[process.rank :: process.size] for batch in batches)


class Several(Sampler[list[Tensor]]):
    """The batches of a sampler, up to `count` of them at a time as a list."""

    def __init__(self, batches: EpochBatches, count: int) -> None:
        self.batches, self.count = batches, count

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this at the start of each epoch."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.batches) // self.count)

    def __iter__(self) -> Iterator[list[Tensor]]:
        remaining = iter(self.batches)
        while some := list(islice(remaining, self.count)):
            yield some


class RowsDataset(Dataset[Any]):
    """Rows that are read one batch at a time: `dataset[positions]` is (inputs, labels), or a list of them for a list.

    Args:
        inputs: Rows that positions can index: pooled features, in memory or on disk, or uint8 (M, H, W, 3) images. If
            they are on a GPU, so are the batches, and nothing is copied to it in an epoch.
        rows: The row of each item, int64 (views, N); epoch e uses view e modulo `views`.
        labels: int64 (N,).
        sampler: The sampler, which knows the epoch; None: always the first view.
        known: The classes that each item may have, bool (N, classes), which are then third in a batch.
    """

    def __init__(
        self,
        inputs: Any,
        rows: Tensor,
        labels: Tensor,
        sampler: EpochSampler | None = None,
        known: Tensor | None = None,
    ) -> None:
        self.device = inputs.device if isinstance(inputs, Tensor) else CPU
        self.inputs, self.sampler, self.rows = inputs, sampler, rows.to(self.device)
        self.targets = tuple(one.to(self.device) for one in ((labels,) if known is None else (labels, known)))

    def __len__(self) -> int:
        return len(self.targets[0])

    def __getitem__(self, positions: Tensor | list[Tensor]) -> Any:
        """Return the batch at positions int64 (n,); images as (n, 3, H, W) in channels-last memory."""
        if isinstance(positions, list):
            sizes = [len(one) for one in positions]  # read at once, then divided
            return list(zip(*(part.split(sizes) for part in self[torch.cat(positions)]), strict=True))
        view = self.sampler.epoch % len(self.rows) if self.sampler is not None else 0
        inputs: Tensor = self.inputs[self.rows[view][positions]]
        targets = (target[positions] for target in self.targets)
        return inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs, *targets


def rows_loader(dataset: RowsDataset, batch_size: int, least: int = 1, together: int = 1) -> DataLoader[Any]:
    """Return a loader of (inputs, labels) batches, or lists of `together` of them; for `least` see `EpochBatches`."""
    batches: Any = EpochBatches(dataset.sampler, len(dataset), batch_size, least, dataset.device)
    if together > 1:
        batches = Several(batches, together)
    pinned = torch.cuda.is_available() and dataset.device == CPU  # copied to the GPU while it computes
    return DataLoader(dataset, sampler=batches, batch_size=None, pin_memory=pinned, generator=torch.Generator())


def worker_count(workers: int | None, images: int) -> int:
    """Return the number of decoding processes: `workers`, or if None one per core, 0 to 8, for enough images."""
    return workers if workers is not None else (min(cpu_count(), 8) if images >= _WORTH_WORKERS else 0)


def image_loader(
    dataset: ImageDataset,
    batch_size: int,
    workers: int | None = None,
    sampler: EpochSampler | None = None,
    least: int = 1,
) -> DataLoader[Any]:
    """Return a loader of uint8 images (N, 3, size, size) with their labels, int64 (N,).

    `workers` is the number of decoding processes; None: chosen for the machine. Without a sampler the files are read in
    their own order. For `least` see `EpochBatches`.
    """
    processes = worker_count(workers, len(dataset))
    batches: dict[str, Any] = {"batch_size": batch_size, "sampler": sampler}
    if distributed.here().size > 1 or least > 1:
        batches = {"batch_sampler": EpochBatches(sampler, len(dataset), batch_size, least)}
    return DataLoader(
        dataset,
        **batches,
        num_workers=processes,
        persistent_workers=processes > 0,
        worker_init_fn=watch_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or the workers' seeds would be drawn from the global generator
    )
