"""Which images a report may show: a run or a table of somebody else may name any file of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from bloodcell.data.samples import Samples, digest
from bloodcell.runtime.console import say
from bloodcell.runtime.io import write_atomically
from bloodcell.runtime.locks import locked


def keep_as_own(samples: Samples, cache: Path) -> None:
    """Record in the cache that the user trained on these very images, so that reports of the run show them."""
    with locked(cache / ".own_images.lock"):
        known = _known(cache)
        if (name := digest(samples)) not in known:
            text = "\n".join([*known, name]) + "\n"
            write_atomically(cache / "own_images.txt", lambda file: file.write_text(text))


def _known(cache: Path) -> list[str]:
    file = cache / "own_images.txt"
    return file.read_text(errors="replace").split() if file.is_file() else []


def own_folder(samples: Samples, cache: Path, shows: object = True) -> Path | None:
    """Return the folder of a run's images if the user trained on them; else None, with a message if it `shows` any."""
    if digest(samples) in _known(cache):
        return samples.root
    if shows:
        say("no pictures: this run was not begun here, and may name any file; if you know it, give data.root=DIR")
    return None


def folder_within(samples: Samples, shows: object = True) -> Path | None:
    """Return the folder that the user named if all images are in it, links followed; else None, with a message."""
    missing = sum(not _is_within(path, samples.root) for path in samples.paths())
    if missing and shows:
        count = f"{missing:,} of {len(samples.table):,} images are"
        say(f"no pictures of the failures: {count} not in {samples.root}; say where they are with data.root=DIR")
    return None if missing else samples.root


def _is_within(path: str, root: Path) -> bool:
    there = os.path.isfile(path)  # noqa: PTH113 - odd names are no error
    return there and Path(path).resolve().is_relative_to(root.resolve())
