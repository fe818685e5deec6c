"""The white cell of a picture that shows one: the surest that the net finds, at the shortest side at which it is sure.

A cell that fills a good part of the picture is seen at once in a small copy of it, in a tenth of the time that all
cells of a field take.
"""

from __future__ import annotations

import hashlib
from functools import cache

from bloodcell.data.cells import LARGER_SIDES, MODEL, SIDES, SURE, Cell, larger_helps, seen_cells
from bloodcell.data.images import Pixels

#: Versions of what finds the cell, as checkpoints and kept features record it: the stain of its nucleus
#: (`bloodcell.data.cell_finder`), and the net.
STAIN, NET = 1, 2
#: Side of the net's box in diameters of the nucleus, the median of the training images of the Kaggle set.
BOX = 1.3
#: Score from which something is the cell if nothing is surer, 0 to 1: the picture is said to show one.
POSSIBLE = 0.2
#: Weight of a cell at the border, relative to one in the centre.
BORDER_WEIGHT = 0.5


def find_cell(image: Pixels) -> Cell | None:
    """Return the white cell in an RGB image, uint8 (H, W, 3); None if there is none.

    Of several cells it is the largest; if they are alike, the most central one.
    """
    levels, seen = [image], list[Cell]()
    for side in (*reversed(SIDES), *LARGER_SIDES):
        if side in LARGER_SIDES and not larger_helps(image, side):
            break
        seen += seen_cells(levels, side, POSSIBLE)
        if sure := [cell for cell in seen if cell.score >= SURE]:
            return max(sure, key=lambda cell: cell.diameter**2 * _centrality(cell, image.shape))
    return max(seen, key=lambda cell: cell.score, default=None)


def _centrality(cell: Cell, shape: tuple[int, ...]) -> float:
    """Return 1 for a cell in the centre of an image, falling linearly to `BORDER_WEIGHT` at the border."""
    x, y = cell.centre
    return 1 - (1 - BORDER_WEIGHT) * max(abs(2 * x / shape[1] - 1), abs(2 * y / shape[0] - 1))


@cache
def finder_digest(finder: int) -> int | str:
    """Return what kept features depend on: the version of a finder; of the net, its bytes, too."""
    return finder if finder == STAIN else f"{finder} {hashlib.sha256(MODEL.read_bytes()).hexdigest()[:16]}"
