"""Where the white cell is: its nucleus by stain, and the square around it; nothing is learnt.

Giemsa and Wright stains colour nuclei violet: blue stands well above green, which haemoglobin absorbs too. That holds
over laboratories, lights and cameras, where the colours themselves do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

#: The version of this algorithm, which kept features carry: raise it with every change that moves a square.
FINDER = 1
#: Longer side of the small picture in which nuclei are found, pixels.
SIDE = 160
_STAIN = 45  # least excess of blue over green in a stained nucleus; red cells and background stay below 20
_LEAST_AREA = 0.0025  # of the field: smaller spots are platelets and dirt
_GAP = 0.35  # lobes of one nucleus lie nearer than this part of its diameter
_CENTRAL = 0.5  # a nucleus at the border counts this much of one in the middle

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Cell:
    """A located white cell, in pixels of the picture.

    Attributes:
        x: Centre of the nucleus, from the left.
        y: Centre of the nucleus, from the top.
        diameter: Of the circle with the area of the nucleus' convex hull, which lobes leave as it is.
    """

    x: float
    y: float
    diameter: float

    def square(self, factor: float) -> tuple[float, float, float]:
        """Return left, top and side of the square around the cell whose side is `factor` nuclear diameters."""
        side = factor * self.diameter
        return self.x - side / 2, self.y - side / 2, side


def locate(picture: Array) -> Cell | None:
    """Find the white cell that a picture shows: the largest nucleus, of several alike the most central one.

    Args:
        picture: uint8 (H, W, 3), RGB.

    Returns:
        The cell; None where nothing is stained like a nucleus.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    planes = cv2.split(picture)[1:]  # first: OpenCV scales one channel at a time faster than three together
    green, blue = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) if scale < 1 else one for one in planes)
    nuclei = _joined(stained(green, blue))
    if not nuclei:
        return None
    best = max(nuclei, key=lambda nucleus: nucleus.diameter**2 * _centrality(nucleus, green.shape))
    across, down = width / green.shape[1], height / green.shape[0]
    return Cell((best.x + 0.5) * across - 0.5, (best.y + 0.5) * down - 0.5, best.diameter * (across + down) / 2)


def cut(picture: Array, left: float, top: float, side: float) -> Array:
    """Return a square of a picture, moved into it as far as it fits, and reflected where it is larger.

    Args:
        picture: uint8 (H, W, 3).
        left: Of the square, pixels.
        top: Of the square, pixels.
        side: Of the square, pixels.

    Returns:
        uint8 (side, side, 3), the side rounded to whole pixels.
    """
    x, y, length = placed(picture, left, top, side)
    part = picture[max(y, 0) : y + length, max(x, 0) : x + length]
    before = max(-y, 0), max(-x, 0)
    after = length - part.shape[0] - before[0], length - part.shape[1] - before[1]
    if not any((*before, *after)):
        return part
    return np.asarray(cv2.copyMakeBorder(part, before[0], after[0], before[1], after[1], cv2.BORDER_REFLECT))


def placed(picture: Array, left: float, top: float, side: float) -> tuple[int, int, int]:
    """Return left, top and side, in whole pixels, of what `cut` takes; its arguments are the same."""
    length = max(1, round(side))
    return _moved(left, length, picture.shape[1]), _moved(top, length, picture.shape[0]), length


def _moved(start: float, length: int, extent: int) -> int:
    """Return where a stretch begins that is moved into an extent; one that is longer lies around its middle."""
    return min(max(round(start), 0), extent - length) if length <= extent else (extent - length) // 2


def stained(green: Array, blue: Array) -> Array:
    """Return where a small picture is stained like a nucleus, bool (h, w), by two of its channels, uint8 (h, w)."""
    excess = cv2.subtract(blue, green)
    threshold, _ = cv2.threshold(excess, 0, 255, cv2.THRESH_OTSU)
    return np.asarray(excess > max(int(threshold), _STAIN))  # a whole number: else all would be compared as float64


def _joined(mask: Array) -> list[Cell]:
    """Return the nuclei of a mask, bool (h, w): spots that lie near each other are lobes of one."""
    x, y, width, height = cv2.boundingRect(spots := mask.view(np.uint8))
    if not width:
        return []
    # counted here: OpenCV's own statistics take five times as long as its components
    _, labels = cv2.connectedComponents(spots[y : y + height, x : x + width], connectivity=8)
    areas = np.bincount(labels.ravel()).astype(float)
    areas[0] = 0
    if (largest := areas.max()) < _LEAST_AREA * mask.size:
        return []
    kept = areas >= max(0.05 * largest, 0.2 * _LEAST_AREA * mask.size)
    if np.count_nonzero(kept) == 1:
        return [_nucleus((labels == kept.argmax()).view(np.uint8), x, y)]
    part = kept.view(np.uint8).take(labels)
    reach = max(1, round(_GAP * np.sqrt(largest / np.pi)))
    margin = min(reach, y), min(reach, len(mask) - y - height), min(reach, x), min(reach, mask.shape[1] - x - width)
    part = cv2.copyMakeBorder(part, *margin, cv2.BORDER_CONSTANT)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    number, groups = cv2.connectedComponents(cv2.dilate(part, kernel))
    found = [_nucleus(part * (groups == group), x - margin[2], y - margin[0]) for group in range(1, number)]
    return [nucleus for nucleus in found if nucleus.diameter**2 * np.pi / 4 >= _LEAST_AREA * mask.size]


def _nucleus(mask: Array, x: int, y: int) -> Cell:
    """Return centre and diameter of the convex hull of a mask, uint8 (h, w), whose corner lies at x, y."""
    left, top, width, height = cv2.boundingRect(mask)
    mask, x, y = mask[top : top + height, left : left + width], x + left, y + top
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(outlines) if len(outlines) > 1 else outlines[0])
    # the hull runs through the pixels' centres: half a pixel is missing all around
    area = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
    sums = cv2.moments(mask, binaryImage=True)
    middle = (sums["m10"] + x * sums["m00"]) / sums["m00"], (sums["m01"] + y * sums["m00"]) / sums["m00"]
    return Cell(*middle, float(2 * np.sqrt(area / np.pi)))


def _centrality(nucleus: Cell, shape: tuple[int, ...]) -> float:
    """Return 1 for a nucleus in the middle of a picture, falling to `_CENTRAL` at the middle of its sides."""
    away = max(abs(2 * nucleus.x / shape[1] - 1), abs(2 * nucleus.y / shape[0] - 1))
    return 1 - (1 - _CENTRAL) * away
