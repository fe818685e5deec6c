"""The white cell of a picture that shows one: the surest that the net finds, at the shortest side at which it is sure.

A cell that fills a good part of the picture is seen at once in a small copy of it, in a tenth of the time that all
cells of a field take.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from bloodcell.data.cells import LARGER_SIDES, SIDES, SURE, Cell, larger_helps, seen_cells, size_at
from bloodcell.data.images import Pixels

#: Versions of what finds the cell, as checkpoints and kept features record it: the stain of its nucleus
#: (`bloodcell.data.cell_finder`), and the net.
STAIN, NET = 1, 2
#: The file of that net, an earlier one than finds the cells of fields: another one would move squares, on which
#: checkpoints were trained.
MODEL = Path(__file__).with_name("one_cell.onnx")
#: Side of the net's box in diameters of the nucleus, the median of the training images of the Kaggle set.
BOX = 1.3
#: Score from which something is the cell if nothing is surer, 0 to 1: the picture is said to show one.
POSSIBLE = 0.2
#: Weight of a cell at the border, relative to one in the centre.
BORDER_WEIGHT = 0.5
#: A picture is halved before it is scaled if it is so many times as large. Less would move squares, on which
#: checkpoints were trained.
HALVED = 4


def find_cell(image: Pixels) -> Cell | None:
    """Return the white cell in an RGB image, uint8 (H, W, 3); None if there is none.

    Of several cells it is the largest; if they are alike, the most central one.
    """
    levels, seen = [image], list[Cell]()
    for side in (*reversed(SIDES), *LARGER_SIDES):
        if side in LARGER_SIDES and not larger_helps(image, side):
            break
        seen += seen_cells(MODEL, _scaled(levels, size_at(image, side)), side, image.shape, POSSIBLE)
        if sure := [cell for cell in seen if cell.score >= SURE]:
            return max(sure, key=lambda cell: cell.diameter**2 * _centrality(cell, image.shape))
    return max(seen, key=lambda cell: cell.score, default=None)


def _scaled(levels: list[Pixels], size: tuple[int, int]) -> Pixels:
    """Return an image scaled to some width and height.

    `levels` has the image, its half, the half of that ...; what is made on the way is added.
    """
    while levels[-1].shape[1] >= HALVED * size[0] and levels[-1].shape[0] >= HALVED * size[1]:
        half = levels[-1].shape[1] // 2, levels[-1].shape[0] // 2
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)))
    level = next(one for one in reversed(levels) if one is levels[0] or one.shape[1] >= HALVED / 2 * size[0])
    how = cv2.INTER_AREA if level.shape[1] > size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(level, size, interpolation=how), np.uint8)


def _centrality(cell: Cell, shape: tuple[int, ...]) -> float:
    """Return 1 for a cell in the centre of an image, falling linearly to `BORDER_WEIGHT` at the border."""
    x, y = cell.centre
    return 1 - (1 - BORDER_WEIGHT) * max(abs(2 * x / shape[1] - 1), abs(2 * y / shape[0] - 1))


@cache
def finder_digest(finder: int) -> int | str:
    """Return what kept features depend on: the version of a finder; of the net, its bytes, too."""
    return finder if finder == STAIN else f"{finder} {hashlib.sha256(MODEL.read_bytes()).hexdigest()[:16]}"
