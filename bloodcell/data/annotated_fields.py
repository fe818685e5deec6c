"""Pictures with a box around each white cell, to train and test the cell finder with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.cell_finder import locate
from bloodcell.data.image_paths import iter_image_paths
from bloodcell.data.images import Pixels, read_image
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_cells, with_known_columns

#: Longer side to which pictures are scaled down.
SIDE = 640
#: Diameter of a cell in those of its nucleus, for pictures of one cell without a box.
CELL = 1.6
#: Folders of pictures that show no white cell.
NONE = ("platelet", "platelets", "none", "background")
BOX_COLUMNS = ("image", "left", "top", "width", "height")


@dataclass(frozen=True, eq=False)
class AnnotatedField:
    """A picture and its white cells.

    Attributes:
        file: Its file.
        image: RGB, uint8 (H, W, 3), of `SIDE` at most.
        boxes: Centre, width and height of each cell in its pixels, float32 (B, 4); a negative size is a guess.
    """

    file: Path
    image: Pixels
    boxes: NDArray[np.float32]


def read_names(file: Path | None) -> set[str]:
    """Return the names that a text file has, a line each; none without a file.

    Raises:
        BloodcellError: The file cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines() if file else []
    except (OSError, ValueError) as error:
        raise BloodcellError(f"cannot read the names in {file}: {error}") from error
    return {line.strip() for line in lines} - {""}


def read_annotated(folder: Path, without: Set[str] = frozenset()) -> list[AnnotatedField]:
    """Read the pictures of a folder with their boxes, but for those whose file names are in `without`.

    The folder, or folders in it, have boxes.csv (image, left, top, width, height; a row a cell), or it has
    Annotations/*.xml beside JPEGImages/ (Pascal VOC, objects called WBC), or a folder for each class with pictures of
    one cell; then the nucleus stands for the cell, and folders called platelet or none have pictures without one.

    Raises:
        BloodcellError: It has none of these, a table is wrong, or a picture is missing.
    """
    if boxes := boxes_of(folder):
        return [_field(file, found) for file, found in boxes.items() if file.name not in without]
    pictures = [Path(file) for file in iter_image_paths([str(folder)])]
    if not pictures:
        raise BloodcellError(f"{folder} has no boxes.csv, no Annotations/ and no image; give another folder")
    one_cell = (_of_one_cell(file) for file in pictures if file.name not in without)
    return [field for field in one_cell if field]


def boxes_of(folder: Path) -> dict[Path, list[list[float]]]:
    """Return left, top, width and height of the cells of each picture, in pixels; none if the folder has no boxes."""
    if tables := sorted(folder.rglob("boxes.csv")):
        return {one.parent / name: found for one in tables for name, found in _of_table(one).items()}
    files = sorted((folder / "Annotations").glob("*.xml"))
    boxes = {folder / "JPEGImages" / f"{file.stem}.jpg": _of_xml(file) for file in files}
    return {file: found for file, found in boxes.items() if found}


def _of_table(file: Path) -> dict[str, list[list[float]]]:
    rows = with_known_columns(read_cells(file, "boxes"), BOX_COLUMNS, file)
    if missing := [name for name in BOX_COLUMNS if name not in rows]:
        raise BloodcellError(f"{file} has no column '{missing[0]}'; it has {named(rows.columns)}")
    boxes = defaultdict(list)
    for number, (image, *texts) in zip(rows.index, rows[list(BOX_COLUMNS)].itertuples(index=False), strict=True):
        try:
            boxes[image.strip()].append([_number(text) for text in texts])
        except ValueError as error:
            raise BloodcellError(f"{file}, row {number}: its box is {named(texts)}; give four numbers") from error
    return dict(sorted(boxes.items()))


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _of_xml(file: Path) -> list[list[float]]:
    boxes = []
    for found in ElementTree.parse(file).getroot().iter("object"):
        if found.findtext("name") == "WBC" and (box := found.find("bndbox")) is not None:
            left, top, right, bottom = (float(box.findtext(key) or 0) for key in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append([left, top, right - left, bottom - top])
    return boxes


def _field(file: Path, boxes: list[list[float]]) -> AnnotatedField:
    image = read_image(file)
    scale = min(1.0, SIDE / max(image.shape[:2]))
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    left, top, width, height = np.array(boxes, np.float32).reshape(-1, 4).T * scale
    return AnnotatedField(file, image, np.stack([left + width / 2, top + height / 2, width, height], axis=1))


def _of_one_cell(file: Path) -> AnnotatedField | None:
    """Return a picture of one cell, by its nucleus; None if its nucleus cannot be found."""
    image = read_image(file)
    if file.parent.name.lower() in NONE:
        return AnnotatedField(file, image, np.empty((0, 4), np.float32))
    if (nucleus := locate(image)) is None:
        return None
    side = CELL * nucleus.diameter
    return AnnotatedField(file, image, np.array([[nucleus.x, nucleus.y, -side, -side]], np.float32))
