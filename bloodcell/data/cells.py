"""Every white cell in a picture: a box around each, and whether the border of the picture cuts it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bloodcell.data.cell_finder import nuclei_of
from bloodcell.data.images import Pixels

#: Diameter of a cell in those of its nucleus, the median of the annotated photographs of the Kaggle set.
CELL = 1.7


@dataclass(frozen=True)
class Cell:
    """A white cell in a picture, in pixels from its upper left corner."""

    left: float
    top: float
    width: float
    height: float
    score: float = 1.0  # how sure the finder is, 0 to 1
    border: bool = False  # whether the border of the picture cuts it

    @property
    def centre(self) -> tuple[float, float]:
        """Its centre, from the left and from the top."""
        return self.left + self.width / 2, self.top + self.height / 2

    @property
    def diameter(self) -> float:
        """Of the circle that fits its box best."""
        return float(np.sqrt(self.width * self.height))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in whole pixels."""
        left, top = round(self.left), round(self.top)
        return left, top, round(self.left + self.width) - left, round(self.top + self.height) - top

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point lies in its box."""
        return 0 <= x - self.left <= self.width and 0 <= y - self.top <= self.height

    def square(self, side: float) -> tuple[float, float, float]:
        """Return left, top and side of a square around it, pixels."""
        x, y = self.centre
        return x - side / 2, y - side / 2, side


def find_cells(image: Pixels) -> list[Cell]:
    """Return the white cells in an RGB image, uint8 (H, W, 3), from top to bottom."""
    height, width = image.shape[:2]
    found = []
    for nucleus in nuclei_of(image):
        side = CELL * nucleus.diameter
        left, right = nucleus.x - side / 2, nucleus.x + side / 2
        top, bottom = nucleus.y - side / 2, nucleus.y + side / 2
        border = min(left, top) < 0 or right > width or bottom > height
        left, right, top, bottom = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
        found.append(Cell(left, top, right - left, bottom - top, border=border))
    return sorted(found, key=lambda cell: (cell.top, cell.left))
