"""Decoding many files to the net's input, while others are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from bloodcell.data.images import Pixels
from bloodcell.data.preprocessing import Preprocessing, named_array
from bloodcell.data.threads import Item, Result, map_in_order

Read = TypeVar("Read")

#: Bytes of images that are prepared together: some dozens of small images, or one large image.
_BATCH_BYTES = 2**24


def decode(files: Sequence[str | Path], preprocessing: Preprocessing) -> tuple[Pixels, list[str]]:
    """Return the net's input, uint8 (N, size, size, 3), and the cell status of each file.

    Raises:
        ImageError: A file cannot be read; the message names it.
    """
    size = preprocessing.image_size
    images, cells = np.empty((len(files), size, size, 3), np.uint8), list[str]()
    for batch in image_batches(named_array(file, preprocessing.white) for file in files):
        for pixels, square in preprocessing.prepare(batch):
            images[len(cells)] = pixels
            cells.append(preprocessing.cell_status(square))
        del batch[:]
    return images, cells


def image_batches(images: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    """Yield images, uint8 (H, W, 3), in lists of about 16 MiB.

    A list that the caller empties is freed before the next images are read.
    """
    batch, size = list[Pixels](), 0
    for image in images:
        batch.append(image)
        size += image.nbytes
        del image  # or the name would keep it alive while the next one is read
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def decode_all(
    files: Sequence[str], preprocessing: Preprocessing, threads: int, progress: Callable[[int, int], None] | None = None
) -> Pixels:
    """Return the net's input for all files, uint8 (N, size, size, 3), decoded by several threads."""
    size, step, done = preprocessing.image_size, 64, 0
    images = np.empty((len(files), size, size, 3), np.uint8)
    groups = [files[i : i + step] for i in range(0, len(files), step)]
    for part, _ in map_in_order(lambda group: decode(group, preprocessing), groups, threads):
        images[done : done + len(part)] = part
        done += len(part)
        if progress:
            progress(done, len(files))
    return images


def read_and_compute(
    read: Callable[[Item], Read], compute: Callable[[Read], Result], items: Iterable[Item], threads: int, streams: int
) -> Iterator[Result]:
    """Yield `compute(read(item))` for each item, in order; reading and computing overlap.

    Args:
        read: Runs in a thread and uses one core.
        compute: Runs in the same thread if several may compute at the same time, otherwise in the caller's thread.
        items: Taken one by one as needed.
        threads: Number of threads that read.
        streams: Number of threads that may compute at the same time.
    """
    if (streams := min(threads, streams)) > 1:
        with threadpool_limits(1, user_api="blas"):  # numpy's own threads would compete for the same cores
            yield from map_in_order(_read_and_compute(read, compute, streams), items, streams)
    else:
        yield from map(compute, map_in_order(read, items, threads))


def _read_and_compute(read: Callable[[Any], Any], compute: Callable[[Any], Any], threads: int) -> Callable[[Any], Any]:
    """Return `compute(read(item))` for several threads; only one reads at a time if that is fast enough.

    Reading is many short calls. Threads that read at the same time wait for each other at the interpreter's lock, and
    reading then takes a third longer.
    """
    lock, one_reader = Lock(), False

    def both(item: Any) -> Any:
        nonlocal one_reader
        with lock if one_reader else nullcontext():
            start = perf_counter()
            content = read(item)
            middle = perf_counter()
        result = compute(content)
        # all other threads can read while one computes
        one_reader = (threads - 1) * (middle - start) <= perf_counter() - middle
        return result

    return both
