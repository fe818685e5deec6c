"""Finding the white cell in an image by the stain of its nucleus, without a trained model, for older checkpoints.

No change may move a square: they were trained on these (`bloodcell.data.one_cell.STAIN`).

Giemsa and Wright stains colour nuclei violet: blue is far brighter than green, which haemoglobin absorbs too. This
difference is stable between laboratories, lamps and cameras; the colours themselves are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.images import Pixels

_SIDE = 160  # nuclei are found in an image scaled down to this longer side, pixels
_STAIN = 45  # least excess of blue over green in a stained nucleus; red cells and background stay below 20
_LEAST_AREA = 0.0025  # of the image: smaller spots are platelets and dirt
_GAP = 0.35  # lobes of one nucleus are closer to each other than this part of its diameter
_BORDER_WEIGHT = 0.5  # of a nucleus at the border, relative to one in the centre


@dataclass(frozen=True)
class Nucleus:
    """A white cell found in an image, in pixels."""

    x: float  # centre of the nucleus, from the left
    y: float  # and from the top
    diameter: float  # of the circle with the area of the nucleus' convex hull, whatever its lobes

    def square(self, factor: float) -> tuple[float, float, float]:
        """Return left, top and side of the square around the cell whose side is `factor` nuclear diameters."""
        side = factor * self.diameter
        return self.x - side / 2, self.y - side / 2, side


def locate(image: Pixels) -> Nucleus | None:
    """Return the white cell in an RGB image, uint8 (H, W, 3); None if nothing is stained like a nucleus.

    Of several cells it is the one with the largest nucleus; if they are alike, the most central one.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    planes = cv2.split(image)[1:]  # OpenCV resizes one channel at a time faster than three together
    green, blue = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) if scale < 1 else plane for plane in planes)
    nuclei = _nuclei(stained_mask(green, blue))
    if not nuclei:
        return None
    best = max(nuclei, key=lambda nucleus: nucleus.diameter**2 * _centrality(nucleus, green.shape))
    across, down = width / green.shape[1], height / green.shape[0]
    return Nucleus((best.x + 0.5) * across - 0.5, (best.y + 0.5) * down - 0.5, best.diameter * (across + down) / 2)


def cut(image: Pixels, left: float, top: float, side: float) -> Pixels:
    """Return a square part of an image, uint8 (side, side, 3), in whole pixels.

    A square that crosses the border of the image, uint8 (H, W, 3), is moved inside; if it is larger than the image, the
    image is extended by reflection.
    """
    x, y, length = whole_square(image, left, top, side)
    part = image[max(y, 0) : y + length, max(x, 0) : x + length]
    before = max(-y, 0), max(-x, 0)
    after = length - part.shape[0] - before[0], length - part.shape[1] - before[1]
    if not any((*before, *after)):
        return part
    return np.asarray(cv2.copyMakeBorder(part, before[0], after[0], before[1], after[1], cv2.BORDER_REFLECT))


def whole_square(image: Pixels, left: float, top: float, side: float) -> tuple[int, int, int]:
    """Return left, top and side of the square that `cut` returns for these arguments, in whole pixels."""
    length = max(1, round(side))
    return _inside(left, length, image.shape[1]), _inside(top, length, image.shape[0]), length


def _inside(start: float, length: int, extent: int) -> int:
    """Return the start of an interval moved inside 0 to `extent`; a longer interval is centred."""
    return min(max(round(start), 0), extent - length) if length <= extent else (extent - length) // 2


def stained_mask(green: NDArray[Any], blue: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels stained like a nucleus, bool (h, w), from two channels of a small image, uint8 (h, w)."""
    excess = cv2.subtract(blue, green)
    threshold, _ = cv2.threshold(excess, 0, 255, cv2.THRESH_OTSU)
    return np.asarray(excess > max(int(threshold), _STAIN))  # an int, or the comparison would be made in float64


def _nuclei(mask: NDArray[np.bool_]) -> list[Nucleus]:
    """Return the nuclei in a mask, bool (h, w); spots close to each other are lobes of one nucleus."""
    x, y, width, height = cv2.boundingRect(spots := mask.view(np.uint8))
    if not width:
        return []
    # bincount is five times as fast as OpenCV's own statistics
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


def _nucleus(mask: NDArray[Any], x: int, y: int) -> Nucleus:
    """Return centre and diameter of the convex hull of a mask, uint8 (h, w), whose corner is at x, y."""
    left, top, width, height = cv2.boundingRect(mask)
    mask, x, y = mask[top : top + height, left : left + width], x + left, y + top
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(outlines) if len(outlines) > 1 else outlines[0])
    # the hull passes through pixel centres: half a pixel is missing on every side
    area = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
    sums = cv2.moments(mask, binaryImage=True)
    centre = (sums["m10"] + x * sums["m00"]) / sums["m00"], (sums["m01"] + y * sums["m00"]) / sums["m00"]
    return Nucleus(*centre, float(2 * np.sqrt(area / np.pi)))


def _centrality(nucleus: Nucleus, shape: tuple[int, ...]) -> float:
    """Return 1 for a nucleus in the centre of an image, falling linearly to `_BORDER_WEIGHT` at the border."""
    distance = max(abs(2 * nucleus.x / shape[1] - 1), abs(2 * nucleus.y / shape[0] - 1))
    return 1 - (1 - _BORDER_WEIGHT) * distance
