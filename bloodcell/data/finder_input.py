"""What the net that finds cells sees of a picture: its colours in parts of its background, haze taken off."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.images import Pixels

#: Least background, 0 to 255, and the brightest that the net sees, in parts of it.
DARK, BRIGHT = 16.0, 1.25
#: Share of a picture that is darker than its background.
LIGHT = 0.95
#: Share of a picture that counts as its darkest, and what it may have of the background's green: nuclei are darker than
#: that in a clear picture, but not through haze or out of focus.
DARKEST, CLEAR = 0.005, 0.4
#: The contrast is raised at most so many times: a field without a white cell has no nucleus, either.
RAISED = 1.35
#: Side of the middle of a cell in that of its box: the darkest quarter of it is nucleus.
MIDDLE = 0.7
#: Every so many rows and columns are enough to measure a picture.
STEP = 4


def normalised(image: Pixels) -> NDArray[np.float32]:
    """Return an RGB image, uint8 (H, W, 3), in parts of its background: the brightness of its brightest twentieth."""
    return np.asarray(finder_input(image)[0].transpose(1, 2, 0))


def finder_input(image: Pixels, contrast: float = 1.0) -> NDArray[np.float32]:
    """Return what the net sees of an RGB image, uint8 (H, W, 3): `normalised`, float32 (1, 3, H, W).

    What is darker than the background is so by `contrast` times as much.
    """
    levels = _parts(image)
    if contrast > 1:
        levels = np.maximum(1 - (1 - levels) * contrast, 0)
    parts = np.empty((1, 3, *image.shape[:2]), np.float32)
    # a table of the 256 levels is four times as fast as a division for each pixel
    for place, plane, table in zip(parts[0], cv2.split(image), np.minimum(levels, BRIGHT).T, strict=True):
        cv2.LUT(plane, np.ascontiguousarray(table, np.float32), dst=place)
    return parts


def clear_contrast(image: Pixels) -> float:
    """Return how many times the contrast of an RGB image, uint8 (H, W, 3), is to be raised: 1 to `RAISED`.

    With it, the darkest places have `CLEAR` of the background's green.
    """
    green = image[..., 1:2]
    darkest = _percentiles(green, DARKEST)[0] / max(_percentiles(green, LIGHT)[0], DARK)
    return float(min(max((1 - CLEAR) / max(1 - darkest, 1e-3), 1.0), RAISED))


def darkness(image: Pixels, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how dark the nuclei of cells are in an RGB image, uint8 (H, W, 3): 0 as the background, 1 black.

    It is that of the darkest part of the middle of a box in green, the light that stains of nuclei take most.

    Args:
        image: The picture.
        boxes: Left, top, width and height, pixels: (N, 4).
    """
    green = image[..., 1]
    background = max(_percentiles(image[..., 1:2], LIGHT)[0], DARK)
    start = np.clip(boxes[:, :2] + (1 - MIDDLE) / 2 * boxes[:, 2:], 0, np.subtract(green.shape[::-1], 1)).astype(int)
    end = (boxes[:, :2] + (1 + MIDDLE) / 2 * boxes[:, 2:]).astype(int) + 1
    middles = [green[top:bottom, left:right].ravel() for (left, top), (right, bottom) in zip(start, end, strict=True)]
    nuclei = [np.partition(one, len(one) // 4)[: len(one) // 4 + 1].mean() for one in middles]
    return np.asarray(np.maximum(1 - np.array(nuclei) / background, 0))


def _parts(image: Pixels) -> NDArray[np.float64]:
    """Return what each level of each channel of an image is in parts of its background, (256, 3)."""
    return np.asarray(np.arange(256)[:, None] / np.maximum(_percentiles(image, LIGHT), DARK).astype(np.float32))


def _percentiles(image: Pixels, share: float) -> NDArray[np.float64]:
    """Return the level of each channel of an image, uint8 (H, W, C), that a share of it is below, linearly: (C,).

    Every fourth row and column count. Counts of the 256 levels take a fifth of the time of `np.percentile`, whose
    values these are.
    """
    part = np.ascontiguousarray(image[::STEP, ::STEP])
    place = share * (part.shape[0] * part.shape[1] - 1)
    counts = [cv2.calcHist([part], [channel], None, [256], [0, 256]).ravel() for channel in range(part.shape[2])]
    around = [np.searchsorted(np.cumsum(one), [int(place), np.ceil(place)], side="right") for one in counts]
    return np.array([before + (after - before) * (place - int(place)) for before, after in around])
