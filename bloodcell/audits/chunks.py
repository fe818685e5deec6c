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
from bloodcell.runtime.console import Advance
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_atomically

#: Images in a chunk: some seconds of work, 11 MB of features.
CHUNK = 256

#: What each kind of result is for, as the progress shows it.
PHASES = {
    "features": "audit: key points",
    "edges": "audit: comparing images",
    "originals": "audit: originals",
    "matches": "audit: comparing",
}
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
    progress: Advance

    def results(self, name: str, keys: Sequence[str], compute: Callable[[slice], Array]) -> Iterator[Array]:
        """Yield the result of each chunk of `CHUNK` images, computing only those that are not on disk.

        The keys name all that the result of each image depends on; `compute` is given some successive images.
        """
        slices = [slice(start, min(start + CHUNK, len(keys))) for start in range(0, len(keys), CHUNK)]
        chunks = [(f"{name}-{digest(*keys[items])}", items) for items in slices]
        missing = {one: items.stop - items.start for one, items in chunks if not self._file(one).is_file()}
        done, total = 0, sum(missing.values()) or None
        self.progress(0, total, PHASES[name])
        for one, items in chunks:
            yield self.result(one, partial(compute, items))
            done += missing.pop(one, 0)  # of two chunks of the same images, one is computed
            self.progress(done, total, PHASES[name])

    def result(self, name: str, compute: Callable[[], Array]) -> Array:
        """Return the array of a name, mapped into memory read-only; compute and write it if it is not on disk."""
        path = self._file(name)
        with suppress(OSError, ValueError, EOFError):  # it is not there, or torn by a full disk
            return _mapped(path)
        array = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            write_atomically(path, lambda temporary: _write(array, temporary))
            return _mapped(path)
        except FileNotFoundError:  # another audit of the same images has just ended and removed the folder
            return array

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def _write(array: Array, path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)  # not numpy's writer, which hides the reason when the disk is full


def _mapped(path: Path) -> Array:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
