"""What is written for each field beside the table: the picture with its boxes, and the boxes for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.data.image_paths import relative_to, searched
from bloodcell.data.whole_slides import opened
from bloodcell.inference.fields.geojson import feature_collection
from bloodcell.inference.fields.overlays import marks_of, overlay
from bloodcell.inference.fields.rois import require_roifile, roi_archive
from bloodcell.inference.fields.slide_parts import part_of
from bloodcell.inference.groups import KEPT, Field, Group
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import remove_temporaries, write_atomically, write_text

Array = np.ndarray[Any, np.dtype[Any]]

#: Format of the pictures with boxes by the ending of a field; others become PNG, and their names get its ending.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


@dataclass(frozen=True)
class FieldFiles:
    """Writes files named like the fields into one folder or two, with the folders below `base` mirrored.

    Attributes:
        classes: In the order of the probabilities.
        base: The folder of the fields; '' if there are several.
        overlays: For the pictures with boxes; None: there are none.
        geojson: For FIELD.geojson; None: there are none.
        rois: For FIELD.zip; None: there are none.
    """

    classes: list[str]
    base: str
    overlays: Path | None
    geojson: Path | None
    rois: Path | None = None

    def write(self, group: Group, threshold: float) -> Group:
        """Write the files of a group's fields, and return the group without their pictures.

        Cells with a confidence below the threshold are marked, and those that are unlike or of a class left out.
        """
        assert group.fields is not None
        if part_of(group.given):  # its slide is not complete
            return group
        ends = np.cumsum([len(field.cells) for field in group.fields])
        unlike = None if group.unlike is None else group.unlike.tolist()
        marks = marks_of(group.probabilities, threshold, unlike, group.others)
        for field, end in zip(group.fields, ends.tolist(), strict=True):
            its = slice(end - len(field.cells), end)
            self._write(field, group.probabilities[its], marks[its])
        return replace(group, fields=[replace(field, picture=None) for field in group.fields])

    def write_slide(self, slide: Field, probabilities: Array, marks: Sequence[str]) -> None:
        """Write the files of a whole slide, a field without its picture, with the probabilities of its cells (N, C)."""
        if self.overlays is not None:
            opened_slide = opened(slide.image)
            picture = opened_slide.overview(KEPT)
            assert picture is not None
            slide = replace(slide, picture=picture, scale=picture.shape[1] / opened_slide.size[0])
        self._write(slide, probabilities, marks)

    def _write(self, field: Field, probabilities: Array, marks: Sequence[str]) -> None:
        name = mirrored(os.fspath(field.image), self.base)
        if self.overlays is not None:
            form = FORMATS.get(Path(name).suffix.lower())
            file = _below(self.overlays, name if form else f"{name}.png")
            drawn = overlay(field, probabilities, self.classes, marks)
            write_atomically(file, partial(drawn.save, format=form or "PNG", quality=90))
        if self.geojson is not None:
            boxes = feature_collection(field.cells, probabilities, self.classes)
            write_text(json.dumps(boxes, ensure_ascii=False), _below(self.geojson, f"{name}.geojson"))
        if self.rois is not None:
            content = roi_archive(field.cells, probabilities, self.classes)
            write_atomically(_below(self.rois, f"{name}.zip"), lambda file: Path(file).write_bytes(content))


def field_files(
    folders: dict[str, str | None], cells: str, classes: list[str], given: list[str], base: str
) -> FieldFiles | None:
    """Return what writes the files that are asked for; None: there are none.

    Args:
        folders: Of overlays, geojson and rois; None: not asked for.
        cells: all: the rows are cells.
        classes: In the order of the probabilities.
        given: The images.
        base: The folder of the fields; '' if there are several.

    Raises:
        BloodcellError: They are asked for, and the rows are not cells; a folder cannot be made; the folder of
            pictures is not apart from the images; or what writes ROIs is not installed.
    """
    asked = {key: Path(value).expanduser() for key, value in folders.items() if value is not None}
    for key, folder in asked.items():
        if cells != "all":
            raise BloodcellError(f"{key}={folder} has the cells of fields, and this is cells={cells}; give cells=all")
    if "rois" in asked:
        require_roifile(asked["rois"])
    if "overlays" in asked:
        require_apart(asked["overlays"], given)
    for key, folder in asked.items():
        distributed.once(partial(_prepare, key, folder))
    return FieldFiles(classes, base, *map(asked.get, ("overlays", "geojson", "rois"))) if asked else None


def mirrored(path: str, base: str) -> str:
    """Return the path of a field's files below their folder, without an ending of their own."""
    relative = Path(relative_to(path, base))
    if relative.is_absolute() or ".." in relative.parts:
        absolute = Path(os.path.normpath(relative.absolute()))
        relative = absolute.relative_to(absolute.anchor)
    return relative.as_posix()


def require_apart(folder: Path, given: list[str]) -> None:
    """Refuse a folder whose pictures could replace images, or would be taken for images.

    Raises:
        BloodcellError: It holds what is given, or lies in a given folder.
    """
    own = folder.resolve()
    for one in given:
        place, deep = searched(one)
        if place.resolve().is_relative_to(own) or (deep and own.is_relative_to(place.resolve())):
            raise BloodcellError(f"overlays={folder} shares a folder with images={one}; give it a folder of its own")


def _prepare(key: str, folder: Path) -> None:
    """Make a folder, and remove what a killed process left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BloodcellError(f"{key}={folder}: no such folder can be made; choose another") from error
    for one in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        remove_temporaries(one)


def _below(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder that is made if it is not there."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
