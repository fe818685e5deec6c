"""Every white cell in a picture, found by a small net: a box around each, whatever its stain, light and size.

The net says for each place of a grid how sure it is that a cell has its centre there, and how large that cell is (Zhou
et al. 2019, "Objects as points", https://arxiv.org/abs/1904.07850). It looks at the picture in several sizes, as it
knows cells of 12 to 110 pixels only. ``python -m bloodcell.training.finder`` trains it; `finder.md` is its card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.finder_input import clear_contrast, darkness, finder_input
from bloodcell.data.images import Pixels
from bloodcell.runtime.io import file_digest

MODEL = Path(__file__).with_name("finder.onnx")
#: The same net in 8-bit integers, at 1.8 times the rate: it is what finds the cells.
INTEGERS = Path(__file__).with_name("finder_int8.onnx")
#: Diameter of a cell in those of its nucleus, the median of the annotated photographs of the Kaggle set.
CELL = 1.7
#: Longer sides of a picture that the net looks at, pixels; and those for cells smaller than `SMALL` in the one before.
SIDES, LARGER_SIDES, SMALL = (416, 208, 104), (832, 1664), 28.0
#: Least and largest diameter of a cell that counts, pixels in one of `SIDES`: a smaller one is told at a longer side, a
#: larger one at a shorter side, if there is one (Singh & Davis 2018, https://arxiv.org/abs/1711.08189).
TOLD = 18.0, 100.0
#: A small picture is enlarged at most so many times.
ENLARGED = 2.0
#: White cells of one picture have between a part of their median diameter and so many times it: large cells are not
#: looked for at the longest of `SIDES`, nor small ones at the others.
SPREAD = 2.0
#: Score from which something is surely a cell, 0 to 1; in a picture without one, nothing is likely.
SURE = 0.5
#: Score of a likely one whose nucleus is the darkest of its picture, and whose score is the best. Others lose by these
#: powers of their ratios to them: red cells and dirt are paler than the white cells beside them.
LIKELY, BY_DARKNESS, BY_SCORE = 0.4, 1.5, 0.25
#: Score from which something may be a cell; if nothing is likely, the surest counts if it has this diameter in shorter
#: sides of the picture: it was cut out.
SURE_ALONE, ALONE = 0.3, 0.2
#: Score that the surest cell of a picture has if it shows blood: so in 98 % of the fields of laboratories that the net
#: knows, in 87 to 100 % of others, and in 13 % of the cut-outs of photographs in which it sees a cell.
SURE_OF_PICTURE = 0.6
#: Least diameter of a cell in those of the likeliest one of its picture: a platelet or dirt is smaller. White cells of
#: one magnification measure 7 to 20 micrometres.
ALIKE = 0.4
#: Pixels of the net's input in a place of its grid.
STRIDE = 4
#: Two boxes are one cell's if they share this part of their union, or if one centre is this near the other's, in sides.
OVERLAP, NEAR = 0.35, 0.3
#: A box is that of the same cell, too, if this part of it lies in a surer and larger one: it shows a lobe or a half.
INSIDE = 0.7
#: A box that is nearer to the border than this part of its diameter is cut by it.
EDGE = 0.04


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
        """Of a square with the area of its box."""
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


def find_cells(image: Pixels, least: float | None = None) -> list[Cell]:
    """Return the white cells in an RGB image, uint8 (H, W, 3), from top to bottom.

    `least` is the score from which something is a cell. None: what is likely next to the others, or if nothing is,
    one of `SURE_ALONE` that fills the picture.
    """
    pictures = _pictures(image)
    contrast = clear_contrast(pictures[SIDES[0]])
    found = _found(image, pictures, contrast, SURE_ALONE if least is None else least)
    if least is None:
        likely = _likely(found, pictures[SIDES[0]], max(image.shape[:2]))
        if not likely and contrast > 1:  # contrast makes large cells of nothing
            found = _found(image, pictures, 1.0, SURE_ALONE)
        found = likely or _alone(found, min(image.shape[:2]))
    return sorted(found, key=lambda cell: (cell.top, cell.left))


def doubtful(cells: list[Cell]) -> bool:
    """Return whether no cell of a picture is sure enough to say that it shows blood."""
    return all(cell.score < SURE_OF_PICTURE for cell in cells)


def cells_digest() -> str:
    """Return what kept tables of cells depend on: the net that finds them, and the score of a picture of blood."""
    return f"{file_digest(INTEGERS)} {SURE_OF_PICTURE}"


def _found(image: Pixels, pictures: dict[int, Pixels], contrast: float, least: float) -> list[Cell]:
    """Return what has at least some score in an image, of which there are pictures at each of `SIDES`."""

    def seen(side: int) -> list[Cell]:
        scaled = pictures[side] if side in pictures else _scaled(image, size_at(image, side))
        return seen_cells(INTEGERS, scaled, side, image.shape, least, contrast)

    found = _looked(seen, max(image.shape[:2]))
    for side in LARGER_SIDES:
        if not larger_helps(image, side) or not _small(found, max(image.shape[:2]), side // 2):
            break
        found = _merged([*found, *seen(side)])
    return found


def _likely(found: list[Cell], picture: Pixels, longer: int) -> list[Cell]:
    """Return those of a picture's cells that are likely next to its others, by `LIKELY` and `ALIKE`, if one is sure.

    `picture` is the image of some `longer` side, scaled.
    """
    if not any(cell.score >= SURE for cell in found):
        return []
    scale, scores = max(picture.shape[:2]) / longer, np.array([cell.score for cell in found])
    dark = darkness(picture, scale * np.array([(cell.left, cell.top, cell.width, cell.height) for cell in found]))
    likely = scores * (dark / max(dark.max(), 1e-3)) ** BY_DARKNESS * (scores / scores.max()) ** BY_SCORE
    least = ALIKE * found[int(likely.argmax())].diameter
    return [
        cell
        for cell, value in zip(found, likely, strict=True)
        if value >= LIKELY and (cell.border or cell.diameter >= least)
    ]


def _looked(seen: Callable[[int], list[Cell]], longer: int) -> list[Cell]:
    """Return the cells seen at `SIDES`, the shortest first: what the net sees there may spare the longest.

    `seen` returns those of a side, and `longer` is that of the picture.
    """
    longest, middle, shortest = SIDES
    large = seen(shortest)
    if _sure_diameter(large) * middle / longer >= SPREAD * TOLD[0]:
        large = _merged([*large, *seen(middle)])
        unsure = any(cell.score < SURE for cell in large)
        return _merged([*large, *seen(longest)]) if unsure else large
    small = seen(longest)
    if large or not 0 < _sure_diameter(small) * longest / longer <= TOLD[1] / SPREAD:
        small += seen(middle)
    return _merged([*large, *small])


def _pictures(image: Pixels) -> dict[int, Pixels]:
    """Return an image scaled to each of `SIDES`, each made of the one before if that is not larger than the image."""
    pictures, level = {}, image
    for side in SIDES:
        pictures[side] = scaled = _scaled(level, size_at(image, side))
        level = scaled if scaled.size <= image.size else image
    return pictures


def _scaled(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return an image scaled to some width and height.

    It is halved as long as it is twice as large; then, the mean of neighbours is near enough. The mean of all pixels
    takes as long as the net.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        image = np.asarray(cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2)), np.uint8)
    return np.asarray(cv2.resize(image, size), np.uint8)


def _sure_diameter(cells: list[Cell]) -> float:
    """Return the median diameter of the cells that are sure, pixels; 0 if none is."""
    sure = [cell.diameter for cell in cells if cell.score >= SURE]
    return float(np.median(sure)) if sure else 0.0


def _alone(found: list[Cell], shorter: int) -> list[Cell]:
    """Return the surest of the cells that fill a picture with a shorter side of some pixels, if there is one."""
    return sorted((cell for cell in found if cell.diameter >= ALONE * shorter), key=lambda cell: -cell.score)[:1]


def larger_helps(image: Pixels, side: int) -> bool:
    """Return whether an image is large enough to be looked at with a longer side of `side`."""
    return bool(max(image.shape[:2]) * ENLARGED >= side)


def _small(found: list[Cell], longer: int, side: int) -> bool:
    """Return whether the cells are too small for the net in a picture whose longer side is scaled to `side`."""
    diameter = _sure_diameter(found) or float(np.median([cell.diameter for cell in found] or [0.0]))
    return diameter * side / longer < SMALL


def seen_cells(
    net: Path, scaled: Pixels, side: int, shape: tuple[int, ...], least: float, contrast: float = 1.0
) -> list[Cell]:
    """Return the cells that a net sees in an image of some shape, whose longer side is scaled to `side`.

    `net` is its file; `scaled` is that image, uint8 (h, w, 3), of `size_at`. `least` is the score from which something
    is a cell; `contrast` is raised, see `finder_input`. Two of them may be the same one.
    """
    (height, width), (h, w) = shape[:2], scaled.shape[:2]
    heat, extent = _session(net).run(None, {"image": finder_input(scaled, contrast)})
    found = _cells(heat[0, 0], extent[0], least, (width / w, height / h), (width, height))
    scale = min(side / max(height, width), ENLARGED)
    return [cell for cell in found if _told(cell.diameter * scale, side)]


def size_at(image: Pixels, side: int) -> tuple[int, int]:
    """Return width and height of an image, uint8 (H, W, 3), whose longer side is scaled to `side`."""
    height, width = image.shape[:2]
    scale = min(side / max(height, width), ENLARGED)
    return max(STRIDE, round(width * scale)), max(STRIDE, round(height * scale))


def _told(diameter: float, side: int) -> bool:
    """Return whether a cell of a diameter, in pixels of the longer `side`, is not told better at another side."""
    return (side >= SIDES[0] or diameter >= TOLD[0]) and (side == SIDES[-1] or diameter <= TOLD[1])


def _cells(
    heat: NDArray[Any], extent: NDArray[Any], least: float, scale: tuple[float, float], size: tuple[int, int]
) -> list[Cell]:
    """Return the cells at the peaks of a map of scores, (h, w), with a map of widths and heights, (2, h, w)."""
    rows, columns = np.nonzero((heat >= least) & (heat == cv2.dilate(heat, np.ones((3, 3), np.uint8))))
    found = []
    for row, column in zip(rows, columns, strict=True):
        width, height = (float(side * step) for side, step in zip(extent[:, row, column], scale, strict=True))
        across, down = _between(heat[row], int(column)), _between(heat[:, column], int(row))
        x, y = (column + 0.5 + across) * STRIDE * scale[0], (row + 0.5 + down) * STRIDE * scale[1]
        found.append(_inside(float(x), float(y), width, height, float(heat[row, column]), size))
    return found


def _between(heat: NDArray[Any], place: int) -> float:
    """Return how far from a place in a line of scores, (n,), the top of the bell lies, in places: -0.5 to 0.5.

    The net has learnt bells of Gauss, so their logarithm is a parabola.
    """
    if not 0 < place < len(heat) - 1:
        return 0.0
    before, here, after = np.log(np.maximum(heat[place - 1 : place + 2], 1e-6)).tolist()
    bend = before - 2 * here + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0


def _inside(x: float, y: float, width: float, height: float, score: float, size: tuple[int, int]) -> Cell:
    """Return a cell with its box cut to a picture of some width and height."""
    left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    edge = EDGE * (width * height) ** 0.5
    border = min(left, top) < edge or right > size[0] - edge or bottom > size[1] - edge
    left, right, top, bottom = max(left, 0.0), min(right, size[0]), max(top, 0.0), min(bottom, size[1])
    return Cell(left, top, right - left, bottom - top, score, border)


def _merged(cells: list[Cell]) -> list[Cell]:
    """Return one box a cell, the surest of those that show it."""
    kept: list[Cell] = []
    for cell in sorted(cells, key=lambda cell: (-cell.score, cell.top, cell.left)):
        if all(apart(cell, other) for other in kept):
            kept.append(cell)
    return kept


def apart(cell: Cell, other: Cell) -> bool:
    """Return whether two boxes are two cells'."""
    across = min(cell.left + cell.width, other.left + other.width) - max(cell.left, other.left)
    down = min(cell.top + cell.height, other.top + other.height) - max(cell.top, other.top)
    shared = max(across, 0.0) * max(down, 0.0)
    (x, y), (u, v) = cell.centre, other.centre
    near = abs(x - u) < NEAR * other.width and abs(y - v) < NEAR * other.height
    area, larger = cell.width * cell.height, other.width * other.height
    part_of_it = area < larger and shared >= INSIDE * area
    return not near and not part_of_it and shared <= OVERLAP * (area + larger - shared)


@cache
def _session(net: Path) -> Any:
    """Return the session of a net; it computes in the caller's thread, as several threads read pictures."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(net), options, providers=["CPUExecutionProvider"])
