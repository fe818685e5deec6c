"""Folders: filled under another name and then put in their place, so that nobody sees a part of one."""

from __future__ import annotations

import glob
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """Make an empty folder beside a place, and remove it at the end; nobody can guess its name."""
    folder = place.with_name(f".{place.name}.{secrets.randbits(40)}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_temporary_folders(place: Path) -> None:
    """Remove the folders of `temporary_folder` that killed processes left beside a place."""
    for left in place.parent.glob(f".{glob.escape(place.name)}.*"):
        number = left.name.removeprefix(f".{place.name}.")  # not all of a name with a dot, as another place may have
        if number.isdecimal() and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


def put_in_place(filled: Path, place: Path) -> None:
    """Move a folder to a place beside it; a folder that is there is removed, but stays if the new one cannot move."""
    if not place.exists():
        filled.rename(place)
        return
    with temporary_folder(place) as aside:
        place.rename(aside / "old")
        try:
            filled.rename(place)
        except OSError:
            (aside / "old").rename(place)
            raise
