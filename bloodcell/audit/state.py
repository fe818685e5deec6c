"""Progress that survives: results of a chunk of files, kept under the identity of these files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
            path.unlink()  # torn by a full disk or an older release: compute it again
    array = compute()
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    part.replace(path)  # complete or absent, whenever the process is killed
    return _map(path)


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


def _map(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def forget(folder: Path) -> None:
    """Remove everything that is kept in a state folder, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    for path in [*folder.glob("*.npy"), *folder.glob("*.part")]:
        path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
