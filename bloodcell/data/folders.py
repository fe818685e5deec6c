"""Class folders and split folders: which folders and files count, and in what order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bloodcell.data.images import EXTENSIONS
from bloodcell.runtime.errors import BloodcellError

#: Folder name in lower case -> split.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
    "test_simple": "test_simple",
}  # fmt: skip

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def class_folder_rows(root: Path, split: str) -> list[tuple[Path, str, str, str]]:
    """Return (file, class name, split, empty source) of every image in `root`, which holds one folder per class.

    Raises:
        BloodcellError: `root` is missing or holds no class folder.
    """
    if not root.is_dir():
        raise BloodcellError(f"no such folder: {root}; give an existing one with data.root=DIR")
    folders = visible_folders(root)
    if not folders:
        raise BloodcellError(f"no class folders in {root}; it should hold one folder of images per class")
    return [(file, folder.name, split, "") for folder in folders for file in sorted(image_files(folder))]


def split_folders(root: Path) -> dict[str, Path]:
    """Return split -> folder for the folders in `root` with the name of a split, in any letter case.

    Raises:
        BloodcellError: Two folders mean the same split, e.g. `val` and `Validation`.
    """
    found: dict[str, Path] = {}
    for folder in visible_folders(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split and visible_folders(folder):  # a class may be called "test", but only a split holds folders
            if split in found:
                raise BloodcellError(
                    f"{found[split]} and {folder.name} both mean the {split} part; rename or remove one"
                )
            found[split] = folder
    return found


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted by name."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(error) from error
    return [entry for entry in entries if entry.is_dir() and not is_hidden(entry.name)]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder belongs to the system or an editor and not to the user."""
    return name.startswith((".", "__")) or name.lower() in _SYSTEM_FILES


def image_files(folder: Path, unreadable: list[Path] | None = None) -> Iterator[Path]:
    """Yield the image files in a folder at any depth, as they are found, sorted by name in each folder.

    A file counts as an image by its ending; pipes and devices are yielded too and are reported as bad images later. A
    folder is visited once, even if several links lead to it. Folders that cannot be read are added to `unreadable`.

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
        for name in sorted(files):
            file = Path(parent, name)
            if not is_hidden(name) and file.suffix.lower() in EXTENSIONS:
                yield file


def _unreadable(error: OSError) -> BloodcellError:
    return BloodcellError(f"cannot read the folder {error.filename}: {error.strerror}")
