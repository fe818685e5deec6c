"""Files that are called images: odd ones with their picture, and bad ones with the reason that is given."""

from __future__ import annotations

from pathlib import Path

from tests.inputs.pictures import content, exif, jpeg, names, png, simple, tiff  # each registers its kinds
from tests.inputs.pictures.making import PICTURES, Expected, scene
from tests.inputs.pictures.names import NAMES

__all__ = ["NAMES", "PICTURES", "content", "exif", "jpeg", "names", "png", "scene", "simple", "tiff", "write_all"]


def write_all(folder: Path, step: int = 1) -> dict[Path, Expected]:
    """Write every kind, or one of so many, into a folder and return what each file must come to."""
    folder.mkdir(parents=True)
    return {folder / picture.file: picture.write(folder / picture.file) for picture in PICTURES[::step]}
