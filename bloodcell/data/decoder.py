"""Decoding many files on all cores, in their order and a bounded number ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bloodcell.data.preprocessing import Preprocessing, picture_of

Array = np.ndarray[Any, np.dtype[Any]]
Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")

#: Bytes of pictures that are worked on together: some dozens of small ones, of large ones one alone.
_HELD = 2**24


def decode(files: Sequence[str | Path], preprocessing: Preprocessing) -> tuple[Array, list[str]]:
    """Return the net's input of some images, uint8 (N, size, size, 3), and for each whether its cell was found.

    The words are those of `Preprocessing.read`.
    """
    size = preprocessing.image_size
    images, cells = np.empty((len(files), size, size, 3), np.uint8), list[str]()
    for pictures in batches(picture_of(file) for file in files):
        for pixels, square in preprocessing.taken(pictures):
            images[len(cells)] = pixels
            cells.append(preprocessing.word(square))
        del pictures[:]
    return images, cells


def batches(pictures: Iterable[Array]) -> Iterator[list[Array]]:
    """Yield pictures, uint8 (H, W, 3), in lists that are worked on together.

    A list that is emptied before the next one is asked for does not take its memory beside that.
    """
    batch, held = list[Array](), 0
    for picture in pictures:
        batch.append(picture)
        held += picture.nbytes
        del picture  # a name would keep it while the next one is read
        if held >= _HELD:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def decode_all(
    files: Sequence[str], preprocessing: Preprocessing, threads: int, progress: Callable[[int, int], None] | None = None
) -> Array:
    """Return the net's input of all files, uint8 (N, size, size, 3), decoded by threads."""
    size, step = preprocessing.image_size, 64
    images = np.empty((len(files), size, size, 3), np.uint8)
    parts = in_order(
        lambda part: decode(part, preprocessing), [files[i : i + step] for i in range(0, len(files), step)], threads
    )
    done = 0
    for part, _ in parts:
        images[done : done + len(part)] = part
        done += len(part)
        if progress:
            progress(done, len(files))
    return images


def overlapped(
    read: Callable[[Item], Read],
    compute: Callable[[Read], Result],
    items: Iterable[Item],
    threads: int,
    streams: int,
) -> Iterator[Result]:
    """Yield `compute` of what `read` returns of each item, in order; reading overlaps computing.

    Args:
        read: Runs in a thread, and takes a core.
        compute: Runs in the same thread where several may run at the same time, else in the caller's.
        items: Taken as they are needed.
        threads: How many.
        streams: How many threads may compute at the same time.
    """
    if (streams := min(threads, streams)) > 1:
        both = _InTurn(read, compute, streams)
        with threadpool_limits(1, user_api="blas"):  # numpy's own threads would wait by spinning, on these cores
            yield from in_order(both, items, streams)
    else:
        yield from map(compute, in_order(read, items, threads))


class _InTurn:
    """Reads and computes in one of several threads; one of them reads at a time where all come to it that way.

    Reading is many short calls, and threads that read at the same time wait for one another at the interpreter's lock,
    which costs a third of the time again. Threads take turns by themselves once they are out of step.

    Args:
        read: As of `overlapped`.
        compute: Likewise.
        threads: How many threads call this.
    """

    def __init__(self, read: Callable[[Any], Any], compute: Callable[[Any], Any], threads: int) -> None:
        self.read, self.compute, self.threads = read, compute, threads
        self.turn, self.suffices = Lock(), False

    def __call__(self, item: Any) -> Any:
        """Return `compute(read(item))`."""
        with self.turn if self.suffices else nullcontext():
            start = perf_counter()
            read = self.read(item)
            middle = perf_counter()
        result = self.compute(read)
        # while one computes, each other has its turn
        self.suffices = (self.threads - 1) * (middle - start) <= perf_counter() - middle
        return result


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int = 2
) -> Iterator[Result]:
    """Yield `function` of each item in order, computed by threads.

    Args:
        function: Runs in a thread; Pillow and the backends release the interpreter's lock.
        items: Taken as they are needed.
        threads: How many; 1: no thread but the caller's.
        ahead: Results a thread that wait at most, which bounds the memory.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    own = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    # each thread is one of as many as there are cores: torch's and OpenCV's own would only get into their way
    pool, waiting = (
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)),
        deque[Future[Result]](),
    )
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= threads * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(own[0])  # for the threads that come after
        cv2.setNumThreads(own[1])
