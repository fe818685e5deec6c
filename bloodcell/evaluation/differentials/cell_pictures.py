"""Example cells of a slide, cut from its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bloodcell.data.cell_finder import cut, whole_square
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import Pixels
from bloodcell.data.preprocessing import as_array
from bloodcell.data.whole_slides import WholeSlide, is_whole_slide, opened
from bloodcell.evaluation.gallery import fitted

#: Side of a picture, pixels; side of the square around a cell, in the longer side of its box.
SIDE, MARGIN = 96, 1.15


@dataclass(frozen=True)
class CellPicture:
    """A cell with its picture."""

    path: str
    name: str  # the class that it counts as
    confirmed: bool  # whether a human has confirmed it
    confidence: float  # probability of the predicted class
    jpeg: bytes


def examples(cells: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most so many cells of each class that they count as, evenly spread over the rows."""
    parts = [part.iloc[:: -(-len(part) // most)] for _, part in cells.groupby("counted_as", sort=False)]
    return pd.concat(parts).sort_index() if parts else cells


def cell_pictures(cells: pd.DataFrame, root: Path, white: float | None) -> list[CellPicture]:
    """Return the picture of each cell of a table of `predict`, whose images are in `root`, as far as they can be read.

    The table also has the columns counted_as and confirmed, true or false.

    `white` is that of the classifier's training, for images that declare none.
    """
    return [one for path, part in cells.groupby("path", sort=False) for one in _of_image(str(path), part, root, white)]


def _of_image(path: str, cells: pd.DataFrame, root: Path, white: float | None) -> Iterator[CellPicture]:
    file = str(root / path)
    try:
        image = None if is_whole_slide(file) else as_array(file, white)
        for row in cells.to_dict("records"):
            cell = _of_slide(opened(file), row) if image is None else _cell(image, row)
            picture = cv2.imencode(".jpg", cell[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            yield CellPicture(
                path, str(row["counted_as"]), bool(row["confirmed"]), float(row["confidence"]), picture.tobytes()
            )
    except ImageError:
        return


def _of_slide(slide: WholeSlide, row: dict[str, Any]) -> Pixels:
    """Return the square around the cell of a row of a whole slide; the longer side has `SIDE` pixels."""
    side = round(MARGIN * max(row["width"], row["height"]))
    left, top = row["left"] + (row["width"] - side) / 2, row["top"] + (row["height"] - side) / 2
    return np.asarray(fitted(slide.read(0, round(left), round(top), side, side), SIDE))


def _cell(image: Pixels, row: dict[str, Any]) -> Pixels:
    """Return the square around the cell of a row, else the whole image; the longer side has `SIDE` pixels."""
    if "width" not in row:
        return np.asarray(fitted(image, SIDE))
    side = MARGIN * max(row["width"], row["height"])
    left, top = row["left"] + (row["width"] - side) / 2, row["top"] + (row["height"] - side) / 2
    return np.asarray(fitted(cut(image, *whole_square(image, left, top, side)), SIDE))
