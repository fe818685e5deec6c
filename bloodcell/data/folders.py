"""Folders and files: which count, and in what order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bloodcell.data.images import EXTENSIONS
from bloodcell.runtime.console import counted
from bloodcell.runtime.errors import BloodcellError

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted by name."""
    return [entry for entry in visible_entries(folder) if entry.is_dir()]


def visible_entries(folder: Path) -> list[Path]:
    """Return the files and folders in a folder that are not hidden, sorted by name."""
    try:
        return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        raise _unreadable(error) from error


def is_hidden(name: str) -> bool:
    """Return whether a file or folder belongs to the system or an editor and not to the user."""
    return name.startswith((".", "__")) or name.lower() in _SYSTEM_FILES


def is_image(file: Path) -> bool:
    """Return whether a file counts as an image: by its ending, in any letter case."""
    return file.suffix.lower() in EXTENSIONS


def image_files(folder: Path, unreadable: list[Path] | None = None) -> Iterator[Path]:
    """Yield the image files of `visible_files`; pipes and devices too, which are reported as bad images later."""
    return filter(is_image, visible_files(folder, unreadable))


def endings_of(files: Iterable[Path]) -> str:
    """Return the number of files of each ending in words, the most frequent first; empty if there is no file."""
    counts = Counter(file.suffix.lower() for file in files).most_common()
    said = [counted(n, f"{end} file") if end else f"{counted(n, 'file')} without ending" for end, n in counts]
    return ", ".join(said[:4]) + (" ..." if len(said) > 4 else "")


def visible_files(folder: Path, unreadable: list[Path] | None = None) -> Iterator[Path]:
    """Yield the files in a folder at any depth that are not hidden, as they are found, sorted by name in each folder.

    A folder is visited once, even if several links lead to it. Folders that cannot be read are added to `unreadable`.

    Raises:
        BloodcellError: A folder cannot be read, and `unreadable` is None.
    """
    visited: set[str] = set()

    def on_error(error: OSError) -> None:
        if unreadable is None:
            raise _unreadable(error) from error
        unreadable.append(Path(error.filename))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=on_error):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(parent, name) for name in sorted(files) if not is_hidden(name))


def _unreadable(error: OSError) -> BloodcellError:
    return BloodcellError(f"cannot read the folder {error.filename}: {error.strerror}")
