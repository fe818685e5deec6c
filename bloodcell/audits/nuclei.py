"""Nuclei: a coarse map of field and nuclei, and whether two aligned images show the same white cell.

Neighbouring fields of one slide show the same red cells around different white cells, so matching key points do not
distinguish a copy of a cell from its neighbourhood. The nuclei do: in aligned images, those of the same cell coincide.
"""

from __future__ import annotations

from enum import IntEnum

import cv2
import numpy as np

from bloodcell.audits.chunks import Array
from bloodcell.data.cell_finder import stained_mask

#: Pixels of the working size in one pixel of the map, along each side.
MAP_SCALE = 4
OUTSIDE, FIELD, NUCLEUS = 0, 1, 2

_FILL = 16  # black fill of shifted and rotated copies, with JPEG noise
_LEAST_AREA = 12  # map pixels, 0.25 % of a 320 x 240 field: smaller spots are dirt
_MINOR = 0.3  # a spot smaller than this part of the largest nucleus is a platelet or cut off by the border
_CENTRED = 0.1  # largest distance of a nucleus from the centre of the crop around it, in sides of the crop
_APART = 0.15  # least distance of two such nuclei, in sides: lobes of one nucleus lie closer, neighbouring cells do not
_UNTURNED = 0.03  # largest entry by which the map between two crops of one photograph differs from a shift


class Cells(IntEnum):
    """Whether two aligned images show the same cell, by their nuclei.

    NEIGHBOURS are two crops of one photograph around two of its cells: each crop may show both cells, but its
    label is that of the central one.
    """

    NEIGHBOURS = -2
    DIFFERENT = -1
    UNKNOWN = 0
    SAME = 1


def field_map(picture: Array) -> tuple[Array, Array]:
    """Find the black fill and the nuclei of a picture, uint8 (H, W, 3), RGB, at the working size.

    Returns:
        The fill of shifted and rotated copies, uint8 (H, W), 0 or 1; and the map, uint8 (H / 4, W / 4) rounded up:
        0 outside the field, 1 in the field, 2 in a nucleus.
    """
    outside = _fill(picture)
    height, width = outside.shape
    size = (-(-width // MAP_SCALE), -(-height // MAP_SCALE))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    places = 1 - cv2.resize(outside, size, interpolation=cv2.INTER_NEAREST)
    places[_nuclei(small) & (places == FIELD)] = NUCLEUS
    return outside, places


def compare_cells(first: Array, second: Array, matrix: Array) -> Cells:
    """Compare the nuclei of two aligned images, maps uint8 (h, w), in the overlap of their fields.

    `matrix`, float (2, 3), maps working coordinates of the first image to those of the second.

    Returns:
        NEIGHBOURS if a mere shift puts the central nucleus of one beside that of the other, SAME if the nuclei
        coincide (Dice coefficient at least 0.5), DIFFERENT if they do not (below 0.25), else UNKNOWN.
    """
    if _neighbours(first, second, matrix):
        return Cells.NEIGHBOURS
    scaled = np.array(matrix, np.float64)
    # pixel centres: x_full = MAP_SCALE * (x_map + 0.5) - 0.5 on both sides
    centre = (MAP_SCALE - 1) / 2
    scaled[:, 2] = (scaled[:, 2] + scaled[:, :2] @ [centre, centre] - centre) / MAP_SCALE
    warped = cv2.warpAffine(first, scaled, second.shape[::-1], flags=cv2.INTER_NEAREST)
    overlap = (warped != OUTSIDE) & (second != OUTSIDE)
    a, b = (warped == NUCLEUS) & overlap, (second == NUCLEUS) & overlap
    least = max(_LEAST_AREA, _MINOR * min(np.sum(first == NUCLEUS), np.sum(second == NUCLEUS)))
    areas = int(a.sum()), int(b.sum())
    if max(areas) < least:
        return Cells.UNKNOWN
    dice = 2 * int((a & b).sum()) / sum(areas)
    if dice >= 0.5 and min(areas) >= least / 2:
        return Cells.SAME
    return Cells.DIFFERENT if dice < 0.25 else Cells.UNKNOWN


def _neighbours(first: Array, second: Array, matrix: Array) -> bool:
    """Return whether two crops of one photograph are each centred on another nucleus."""
    if np.abs(matrix[:, :2] - np.eye(2)).max() > _UNTURNED:
        return False
    a, b = _central(first), _central(second)
    if a is None or b is None:
        return False
    apart = np.linalg.norm(a + matrix[:, 2] / MAP_SCALE - b)
    return bool(apart >= _APART * max(second.shape))


def _central(places: Array) -> Array | None:
    """Return the centroid (x, y) of the nucleus in the centre of a map, in its pixels; None if there is none."""
    count, _, _, centroids = cv2.connectedComponentsWithStats((places == NUCLEUS).astype(np.uint8))
    rows, columns = np.nonzero(places != OUTSIDE)
    if count == 1 or not len(rows):
        return None
    side = max(rows.max() + 1, columns.max() + 1)
    away = np.linalg.norm(centroids[1:] - [columns.max() / 2, rows.max() / 2], axis=1)
    nearest = int(away.argmin())
    return np.asarray(centroids[nearest + 1]) if away[nearest] <= _CENTRED * side else None


def _fill(picture: Array) -> Array:
    """Return the near-black pixels that are connected to the border: uint8 (H, W), 0 or 1."""
    dark = cv2.inRange(picture, (0, 0, 0), (_FILL - 1,) * 3)
    framed = cv2.copyMakeBorder(dark, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    cv2.floodFill(framed, None, (0, 0), 1, flags=8)  # from the frame, which all of the border touches
    return np.asarray(framed[1:-1, 1:-1] == 1).view(np.uint8)


def _nuclei(small: Array) -> Array:
    """Return the nuclei in a small picture, uint8 (h, w, 3) RGB, as bool (h, w)."""
    spots = stained_mask(small[..., 1], small[..., 2]).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(spots, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0  # of the background
    return np.asarray((areas >= max(_LEAST_AREA, _MINOR * areas.max()))[labels])
