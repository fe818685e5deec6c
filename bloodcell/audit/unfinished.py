"""Progress that survives: results of a chunk of files, kept under the identity of these files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.runtime.io import write_atomically

#: Images in a chunk: some seconds of work, 11 MB of features.
CHUNK = 256

#: Called with what is done, what is to do, and the name of the phase.
Progress = Callable[[int, int, str], None]
Array = np.ndarray[Any, np.dtype[Any]]


def digest(*parts: object) -> str:
    """Return a short name for anything whose `repr` is stable."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def kept(folder: Path, name: str, key: str, compute: Callable[[], Array]) -> Array:
    """Return the array that is kept under a name and key; compute and keep it where there is none.

    Args:
        folder: Folder of the state; made where it is missing.
        name: Kind of result; the start of the file's name.
        key: Digest of everything the result depends on.
        compute: Called without arguments where nothing usable is kept.

    Returns:
        The array, mapped into memory read-only.
    """
    path = folder / f"{name}-{key}.npy"
    if path.exists():
        try:
            return _map(path)
        except (OSError, ValueError):
            path.unlink(missing_ok=True)  # torn by a full disk or an older release: compute it again
    array = compute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(path, lambda temporary: _save(array, temporary))
        return _map(path)
    except FileNotFoundError:  # another audit of the same images ended in this moment, and removed what it had kept
        return array


def chunks(
    folder: Path,
    name: str,
    keys: Sequence[str],
    compute: Callable[[range], Array],
    progress: Progress,
    phase: str,
) -> Iterator[Array]:
    """Yield the result of each chunk of items, computing only those that are not kept.

    Args:
        folder: Folder of the state.
        name: Kind of result.
        keys: What each item's result depends on; chunks are runs of `CHUNK` items.
        compute: Result of the items of a range.
        progress: Told the items done after each chunk.
        phase: What is being done, in the user's words.
    """
    progress(0, len(keys), phase)
    for start in range(0, len(keys), CHUNK):
        items = range(start, min(start + CHUNK, len(keys)))
        key = digest(*[keys[item] for item in items])
        yield kept(folder, name, key, lambda items=items: compute(items))  # type: ignore[misc]
        progress(items.stop, len(keys), phase)


def _save(array: Array, path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)  # not numpy's writer, which hides the reason when the disk is full


def _map(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def forget(folder: Path) -> None:
    """Remove everything that is kept in a state folder, and the folder if nothing else is in it."""
    for path in [*folder.glob("*.npy"), *folder.glob(".*.npy.*")]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
