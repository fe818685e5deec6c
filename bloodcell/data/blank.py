"""Pictures that show nothing: black, white or constant all over."""

from __future__ import annotations

import numpy as np

from bloodcell.data.images import Pixels

#: Levels of 255: darker is black, brighter white, and a smaller difference is none. A stained cell spans a hundred.
BLACK, WHITE, CONSTANT = 16, 239, 4
#: Rows and columns that are looked at.
GRID = 48
#: Share of the pixels, the darkest and the brightest, that may be broken.
BROKEN = 0.01


def blank(pixels: Pixels) -> str:
    """Return black, white or constant if an image, uint8 (H, W, 3), shows nothing but a few broken pixels; else ''."""
    rows, columns = (max(1, side // GRID) for side in pixels.shape[:2])
    levels = np.sort(pixels[::rows, ::columns].max(axis=2), axis=None)
    few = int(BROKEN * len(levels))
    low, high = int(levels[few]), int(levels[-1 - few])
    if high < BLACK:
        return "black"
    if levels[0] > WHITE:  # a field may be white but for one small cell
        return "white"
    return "constant" if high - low < CONSTANT else ""
