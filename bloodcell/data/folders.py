"""Folders of images: torchvision's ImageFolder with its class search and its file filter put right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from torchvision.datasets import ImageFolder

from bloodcell.data.images import EXTENSIONS
from bloodcell.runtime.errors import BloodcellError

#: Folder names, in lower case, that mean a split.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
    "test_simple": "test_simple",
}  # fmt: skip

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


class ClassFolders(ImageFolder):  # type: ignore[misc]  # torchvision ships no types
    """An ImageFolder that takes neither hidden folders for classes nor hidden files for images.

    `ImageFolder` numbers the classes of each folder by itself; here only names leave this module.

    Args:
        root: The folder that holds one folder a class.

    Raises:
        BloodcellError: The folder is missing or holds no class folder.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), allow_empty=True)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the names of the visible folders below `directory`, sorted, and their numbers."""
        if not Path(directory).is_dir():
            raise BloodcellError(f"no such folder: {directory}; give an existing one with data.root=DIR")
        classes = [folder.name for folder in visible_folders(Path(directory))]
        if not classes:
            raise BloodcellError(f"no class folders in {directory}; it should hold one folder of images a class")
        return classes, {name: number for number, name in enumerate(classes)}

    @staticmethod
    def make_dataset(
        directory: str | Path,
        class_to_idx: dict[str, int],
        extensions: tuple[str, ...] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> list[tuple[str, int]]:
        """Return (file, class number) of every image below each class's folder, sorted by path."""
        return [
            (str(file), number)
            for name, number in class_to_idx.items()
            for file in sorted(image_files(Path(directory) / name))
        ]

    def rows(self, split: str) -> list[tuple[Path, str, str, str]]:
        """Return (file, class name, split, no source) of every image."""
        return [(Path(file), self.classes[number], split, "") for file, number in self.samples]


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted by name."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise _refusal(error) from error
    return [entry for entry in entries if entry.is_dir() and not is_hidden(entry.name)]


def is_hidden(name: str) -> bool:
    """Say whether a file or folder name is the system's or an editor's, not the user's."""
    return name.startswith((".", "__")) or name.lower() in _SYSTEM_FILES


def image_files(folder: Path, unread: list[Path] | None = None) -> Iterator[Path]:
    """Yield the files below a folder whose ending is an image's, as they are found, by name in each folder.

    A folder is visited once, whatever links lead to it. Pipes and devices are yielded, too: they are bad images.

    Args:
        folder: Where to look, at any depth.
        unread: Folders that cannot be read are added to it, in place of an error.

    Raises:
        BloodcellError: A folder cannot be read, and `unread` is not given.
    """
    visited: set[str] = set()

    def note(error: OSError) -> None:
        if unread is None:
            raise _refusal(error) from error
        unread.append(Path(error.filename))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=note):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else sorted(name for name in folders if not is_hidden(name))
        if real in visited:
            continue
        visited.add(real)
        for name in sorted(files):
            file = Path(parent, name)
            if not is_hidden(name) and file.suffix.lower() in EXTENSIONS:
                yield file


def _refusal(error: OSError) -> BloodcellError:
    return BloodcellError(f"cannot read the folder {error.filename}: {error.strerror}")


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders in `root` that are named as a split, in any letter case, by split.

    Raises:
        BloodcellError: Two folders name the same split, as `val` and `Validation` do.
    """
    found: dict[str, Path] = {}
    for folder in visible_folders(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split and visible_folders(folder):  # a class may be called "test": a split holds folders itself
            if split in found:
                raise BloodcellError(
                    f"{found[split]} and {folder.name} both mean the {split} part; rename or remove one"
                )
            found[split] = folder
    return found
