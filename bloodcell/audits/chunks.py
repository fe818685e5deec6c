"""Long work on many images: on all cores, and in chunks whose results stay on disk until the audit is done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bloodcell.data.threads import Item, Result, map_in_order
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_atomically

#: Images in a chunk: some seconds of work, 11 MB of features.
CHUNK = 256

#: Called with the number of images done and of all, in each phase of the audit.
Progress = Callable[[int, int], None]
Array = np.ndarray[Any, np.dtype[Any]]


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `function` of each item, in order, computed by a thread for each core."""
    with threadpool_limits(1, user_api="blas"):  # NumPy's own threads would compete with these for the cores
        return list(map_in_order(function, items, cpu_count()))


def digest(*parts: object) -> str:
    """Return 24 hexadecimal digits that stand for anything whose `repr` is stable."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


@dataclass(frozen=True)
class ChunkStore:
    """Results of chunks of images on disk, so that an interrupted audit continues from there."""

    folder: Path  # of the results; made if it is missing
    progress: Progress

    def results(self, name: str, keys: Sequence[str], compute: Callable[[slice], Array]) -> Iterator[Array]:
        """Yield the result of each chunk of `CHUNK` images, computing only those that are not on disk.

        The keys name all that the result of each image depends on; `compute` is given some successive images.
        """
        self.progress(0, len(keys))
        for start in range(0, len(keys), CHUNK):
            items = slice(start, min(start + CHUNK, len(keys)))
            yield self.result(f"{name}-{digest(*keys[items])}", partial(compute, items))
            self.progress(items.stop, len(keys))

    def result(self, name: str, compute: Callable[[], Array]) -> Array:
        """Return the array of a name, mapped into memory read-only; compute and write it if it is not on disk."""
        path = self.folder / f"{name}.npy"
        with suppress(OSError, ValueError, EOFError):  # it is not there, or torn by a full disk
            return _mapped(path)
        array = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            write_atomically(path, lambda temporary: _write(array, temporary))
            return _mapped(path)
        except FileNotFoundError:  # another audit of the same images has just ended and removed the folder
            return array


def _write(array: Array, path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)  # not numpy's writer, which hides the reason when the disk is full


def _mapped(path: Path) -> Array:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
