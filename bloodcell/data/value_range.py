"""From pixel values of any type to 8 bits: which value is white?

A file may hold 12 bits in 16 without a word, or a camera's counts as floating point. Its white is then the smallest
usual one that holds its values: 1 (floating point only), 255, 1023, 4095, 16383 or 65535; above that 2^k - 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Whites of pixel values: cameras have 8, 10, 12, 14 or 16 bits.
WHITES = (255, 1023, 4095, 16383, 65535)

#: A filter may overshoot: values up to this share above a white still belong to it.
OVERSHOOT = 0.05
#: Floating point up to this is of 0 to 1: if it were of 0 to 255, the image would be black.
MOST_OF_UNIT = 2.0
#: Share of the values that may be higher still: a camera has pixels that do not work.
BROKEN = 0.001


def white_of(values: NDArray[Any]) -> float:
    """Return the smallest usual white that holds the values, an array of integers or finite floats of any shape.

    Raises:
        ValueError: More than a few values lie clearly below 0, so that black is not known.
    """
    low, high = _quantiles(values)
    if low < -OVERSHOOT * high:
        raise ValueError(f"pixel values from {low:.4g} to {high:.4g}: black is not known; save them as 0 to 255")
    if values.dtype.kind == "f" and high <= MOST_OF_UNIT:
        return 1.0
    whites: list[int] = list(WHITES)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:  # 16 bits with a sign hold 15
        whites = [white for white in WHITES if white < np.iinfo(values.dtype).max] + [np.iinfo(values.dtype).max]
    for white in whites:
        if high <= (1 + OVERSHOOT) * white:
            return float(white)
    return float(2 ** math.ceil(math.log2(high + 1)) - 1)


def _quantiles(values: NDArray[Any]) -> list[float]:
    """Return the values that are the lowest and highest but for the broken ones."""
    shares = np.array([BROKEN, 1 - BROKEN])
    if values.dtype not in (np.uint8, np.uint16):
        return list(np.quantile(values, shares, method="nearest").tolist())
    counts = np.zeros(np.iinfo(values.dtype).max + 1, np.int64)  # a sorted copy would take the memory of the image
    for rows in _strips(values):
        counts += np.bincount(rows.reshape(-1), minlength=len(counts))
    places = np.rint((values.size - 1) * shares)
    return list(np.searchsorted(np.cumsum(counts), places, side="right").tolist())


def _strips(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an array in strips of rows, about a million values each."""
    rows = max(1, 2**20 * len(values) // values.size)
    yield from (values[top : top + rows] for top in range(0, len(values), rows))


def to_8_bits(values: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Return values of 0 to `white` as 0 to 255, clipped. More than 8 bits lose their lowest bits."""
    of_whole_bits = white > 255 and math.log2(white + 1).is_integer()
    factor = 256 / (white + 1) if of_whole_bits else 255 / white
    exact: Any = (
        np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
    )  # half the memory
    result, top = np.empty(values.shape, np.uint8), 0
    for rows in _strips(values):
        # rounded down, but k / 255 times 255 may fall a little short of k
        scaled = rows.astype(exact) * exact(factor)
        result[top : top + len(rows)] = np.floor(np.clip(scaled + exact(2**-12), 0, 255))
        top += len(rows)
    return result
