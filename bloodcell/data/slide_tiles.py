"""The tiles of a whole slide: which level is read, where they lie, and the cells in each.

A tile has a core, and around it a margin that it shares with its neighbours: all of a cell whose centre lies in the
core is seen, and all that the net wants to see around it. A cell near a seam is found in two tiles; `repeated` tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import cv2
import numpy as np

from bloodcell.data.cells import EDGE, Cell, apart, find_cells
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import Pixels
from bloodcell.data.time_limit import timed
from bloodcell.data.whole_slides import WholeSlide, opened

#: Diameter of a white cell on a smear, microns: those of lymphocytes and monocytes are 8 and 18.
DIAMETER = 13.0
#: The same in pixels, for slides without a resolution in which no cell is found; and the least and largest.
USUAL, LEAST, LARGEST = 48.0, 12.0, 512.0
#: Least diameter in the level that is read, pixels, if there is one: of smaller cells the finder takes some for two.
FINDABLE = 40.0
#: Side of a core in diameters of a cell, and its least and largest, pixels.
CORE, SIDES = 16.0, (640, 2048)
#: Centres of cells may lie outside the core by this part of a diameter, so that none is lost at a seam.
SLACK = 0.3
#: Parts of the slide in which cells are measured, their side, pixels, and the least number of cells.
PROBES, PROBE, FEW = 16, 1024, 3
#: Longer side of the overview in which tiles are looked at, and most pixels that are decoded for it.
OVERVIEW, DECODED = 3072, 2**26
#: Values, 0 to 255, that a tile without anything differs by at most.
CALM = 12
#: Most tiles of a slide.
MOST_TILES = 200_000

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Plan:
    """How a slide is read.

    Attributes:
        path: The file.
        level: The level that is read.
        size: Its width and height, pixels.
        diameter: Of its cells, pixels of the level, about.
        margin: Around the core of a tile, pixels of the level.
        tiles: Left, top, right and bottom of the core of each tile that shows something, pixels of the level, row by
            row from the top.
        all_tiles: The number of tiles, those that show nothing included.
        measured: How the diameter is known, in words.
    """

    path: str
    level: int
    size: tuple[int, int]
    diameter: float
    margin: int
    tiles: tuple[Box, ...]
    all_tiles: int
    measured: str


def plan_of(path: str, wanted: float, reach: float) -> Plan:
    """Plan the reading of a whole slide.

    Args:
        path: The file.
        wanted: Diameter of a cell in the net's input, pixels: the smallest level whose cells are as large, and
            at least `FINDABLE`, is read.
        reach: What the net sees to each side of a cell's centre, in diameters.

    Raises:
        ImageError: It cannot be read, or has too many tiles.
    """
    slide = opened(path)
    seen = slide.overview(OVERVIEW, DECODED)
    diameter, measured = _diameter(slide, seen)
    least = max(wanted, FINDABLE)
    fitting = [level for level in range(len(slide.sizes)) if diameter / slide.scale(level)[0] >= least]
    level = max(fitting, default=0)
    of_level = min(max(diameter / slide.scale(level)[0], LEAST), LARGEST)
    size, side = slide.sizes[level], int(np.clip(CORE * of_level, *SIDES))
    tiles = _grid(size, side)
    shown = tuple(tile for tile in tiles if seen is None or not _calm(_in_overview(seen, tile, size)))
    margin = int(np.ceil((max(reach, 1.0) + SLACK + 0.5) * of_level))
    return Plan(path, level, size, of_level, min(margin, side), shown, len(tiles), measured)


def _grid(size: tuple[int, int], side: int) -> list[Box]:
    """Return cores of about equal size, and at most `side` pixels wide and high, row by row."""
    columns, rows = (-(-extent // side) for extent in size)
    if columns * rows > MOST_TILES:
        raise ImageError(f"{columns * rows:,} tiles; the limit is {MOST_TILES:,}")
    across, down = (
        np.linspace(0, extent, number + 1).round().astype(int).tolist()
        for extent, number in zip(size, (columns, rows), strict=True)
    )
    return [
        (across[column], down[row], across[column + 1], down[row + 1])
        for row in range(rows)
        for column in range(columns)
    ]


def _in_overview(seen: Pixels, tile: Box, size: tuple[int, int]) -> Pixels:
    """Return the part of an overview, uint8 (h, w, ...), that shows a core, at least one pixel."""
    across, down = seen.shape[1] / size[0], seen.shape[0] / size[1]
    left, top = int(tile[0] * across), int(tile[1] * down)
    right, bottom = int(np.ceil(tile[2] * across)), int(np.ceil(tile[3] * down))
    return seen[top : max(bottom, top + 1), left : max(right, left + 1)]


def _calm(part: Pixels) -> bool:
    """Return whether a part of a slide, uint8 (h, w, 3), shows nothing."""
    pixels = part.reshape(-1, 3)
    return bool((pixels.max(axis=0) - pixels.min(axis=0)).max() <= CALM)


def _diameter(slide: WholeSlide, seen: Pixels | None) -> tuple[float, str]:
    """Return the diameter of a cell in pixels of the first level, and how it is known."""
    if slide.microns:
        return DIAMETER / slide.microns, f"by its {slide.microns:.3g} microns a pixel"
    found: list[float] = []
    for left, top in _probes(slide.size, seen):
        width, height = (min(PROBE, extent - start) for extent, start in zip(slide.size, (left, top), strict=True))
        picture = slide.read(0, left, top, width, height)
        with timed(f"{slide.path}: finding cells"):
            found += [cell.diameter for cell in find_cells(picture) if not cell.border]
    if len(found) < FEW:
        return USUAL, "as it has no resolution, and too few cells to measure"
    return median(found), f"as {len(found)} of them were measured"


def _probes(size: tuple[int, int], seen: Pixels | None) -> list[tuple[int, int]]:
    """Return the corners of the parts that are most violet in an overview; without one, of evenly spread parts."""
    parts = _grid(size, PROBE)
    if seen is None:
        step = -(-len(parts) // PROBES)
        return [box[:2] for box in parts[step // 2 :: step]]
    excess = np.asarray(cv2.subtract(seen[..., 2], seen[..., 1]), np.uint8)
    stain = [float(_in_overview(excess, box, size).mean()) for box in parts]
    return [parts[index][:2] for index in np.argsort(stain, kind="stable")[::-1][:PROBES]]


@dataclass(frozen=True)
class TileCells:
    """The cells of a tile.

    Attributes:
        picture: What is read, uint8 (H, W, 3).
        cells: In pixels of the picture.
        placed: The same cells in whole pixels of the slide's first level.
    """

    picture: Pixels
    cells: list[Cell]
    placed: list[Cell]


def cells_of(plan: Plan, tiles: Sequence[Box]) -> Iterator[TileCells]:
    """Yield the cells of some tiles of a slide, those within the slack included, which two tiles may find.

    Raises:
        ImageError: A tile cannot be decoded.
    """
    slide = opened(plan.path)
    for left, top, right, bottom in tiles:
        x, y = max(0, left - plan.margin), max(0, top - plan.margin)
        across, down = min(plan.size[0], right + plan.margin) - x, min(plan.size[1], bottom + plan.margin) - y
        picture = slide.read(plan.level, x, y, across, down)
        slack = SLACK * plan.diameter
        with timed(f"{plan.path}: finding the cells of a tile"):
            cells = [] if _calm(picture) else find_cells(picture)
        own = [
            cell
            for cell in cells
            if left - slack <= cell.centre[0] + x < right + slack and top - slack <= cell.centre[1] + y < bottom + slack
        ]
        yield TileCells(picture, own, [_placed(cell, (x, y), slide.scale(plan.level), slide.size) for cell in own])


def _placed(cell: Cell, corner: tuple[int, int], scale: tuple[float, float], size: tuple[int, int]) -> Cell:
    """Return a cell of a tile in whole pixels of the slide; its border is that of the slide."""
    left, top = (cell.left + corner[0]) * scale[0], (cell.top + corner[1]) * scale[1]
    placed = replace(cell, left=left, top=top, width=cell.width * scale[0], height=cell.height * scale[1])
    edge = EDGE * placed.diameter
    border = min(left, top) < edge or left + placed.width > size[0] - edge or top + placed.height > size[1] - edge
    return Cell(*placed.box, cell.score, border)


def repeated(cell: Cell, seen: Sequence[Cell]) -> bool:
    """Return whether a cell is one of those that were seen."""
    return any(not apart(cell, other) for other in seen)


def near_seam(cell: Cell, plan: Plan, tiles: Sequence[Box]) -> bool:
    """Return whether another tile may find a cell of these tiles too: it lies within a diameter of the edge of one."""
    slide = opened(plan.path)
    across, down = slide.scale(plan.level)
    x, y = cell.centre[0] / across, cell.centre[1] / down
    reach = plan.diameter
    edges = (
        min(abs(x - tile[0]), abs(x - tile[2]), abs(y - tile[1]), abs(y - tile[3]))
        for tile in tiles
        if tile[0] - reach <= x <= tile[2] + reach and tile[1] - reach <= y <= tile[3] + reach
    )
    return min(edges, default=reach + 1) <= reach
