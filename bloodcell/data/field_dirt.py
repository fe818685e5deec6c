"""What is as dark as a nucleus and is none, painted into fields for the training of the cell finder.

Clumps of platelets, grains of stain, and smudges: in pictures of laboratories that it has not seen, the finder takes
these for cells more than anything else.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.images import Pixels

Floats = NDArray[np.float32]
Rng = np.random.Generator
#: Least and largest extent of a clump, in diameters of the cells of its field; and in pixels.
EXTENT, LEAST, MOST = (0.35, 1.6), 5, 200
#: Mean level of a place, 0 to 255, below which it is the black around what an eyepiece shows.
BLACK = 40


def dirtied(image: Pixels, boxes: Floats, rng: Rng) -> Pixels:
    """Return a field, uint8 (H, W, 3), with one to four clumps, away from its cells.

    `boxes` is their centre, width and height in pixels, float32 (B, 4).
    """
    x, sizes = image.astype(np.float32), np.sqrt(np.abs(boxes[:, 2] * boxes[:, 3]))
    typical = float(np.median(sizes)) if len(sizes) else rng.uniform(14, 120)
    colour = _colour(x, rng)
    for _ in range(int(rng.integers(1, 5))):
        extent = int(np.clip(typical * np.exp(rng.uniform(*np.log(EXTENT))), LEAST, MOST))
        row, column = (int(rng.integers(side)) for side in image.shape[:2])
        if (np.hypot(boxes[:, 0] - column, boxes[:, 1] - row) >= 0.45 * sizes + 0.5 * extent).all():
            _paint(x, _clump(extent, rng) * rng.uniform(0.45, 1), row - extent // 2, column - extent // 2, colour)
    return np.asarray(np.clip(x, 0, 255), np.uint8)


def _colour(x: Floats, rng: Rng) -> NDArray[np.float64]:
    """Return the colour of what is darkest in a field, or some purple."""
    dark = np.percentile(x[::4, ::4].reshape(-1, 3), rng.uniform(0.5, 4), axis=0)
    if dark.max() < 25 or rng.random() < 0.4:
        return rng.uniform((50, 20, 90), (130, 70, 170))
    return np.asarray(dark)


def _paint(x: Floats, clump: Floats, top: int, left: int, colour: NDArray[np.float64]) -> None:
    """Paint a clump, (n, n), 0 to 1, into a field in place, but not into the black around it."""
    up, before = max(-top, 0), max(-left, 0)
    place = x[top + up : top + len(clump), left + before : left + len(clump)]
    cover = clump[up : up + place.shape[0], before : before + place.shape[1], None]
    if place.size and place.mean() >= BLACK:
        place[:] = place * (1 - cover) + colour * cover * (0.75 + 0.25 * place / 255)


def _clump(extent: int, rng: Rng) -> Floats:
    """Return how much of the light a clump takes, (extent, extent), 0 to 1."""
    down, across = np.mgrid[-1 : 1 : extent * 1j, -1 : 1 : extent * 1j].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    u, v = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
    radius = np.hypot(u, v * rng.uniform(1, 2.2))
    body = _ragged(radius, rng) if rng.random() < 0.5 else _grains(extent, rng)
    return np.asarray(np.clip(body, 0, 1) * np.clip((1.02 - np.hypot(across, down)) * 6, 0, 1), np.float32)


def _ragged(radius: Floats, rng: Rng) -> Floats:
    grain = max(rng.uniform(0.03, 0.12) * len(radius), 0.7)
    noise = cv2.GaussianBlur(rng.standard_normal(radius.shape, np.float32), (0, 0), grain)
    rough = noise / (noise.std() + 1e-6) * rng.uniform(0.5, 1)
    return np.asarray((rough + 1.2 - 2 * radius) * rng.uniform(1, 4), np.float32)


def _grains(extent: int, rng: Rng) -> Floats:
    """Return grains of stain, or platelets if they are larger."""
    canvas, largest = np.zeros((extent, extent), np.float32), rng.choice([0.09, 0.16], p=[0.7, 0.3])
    for _ in range(int(rng.integers(2, 40))):
        column, row = (int(place) for place in np.clip((rng.normal(0, 0.3, 2) + 1) / 2 * extent, 0, extent - 1))
        radius = max(1, int(rng.uniform(0.02, largest) * extent))
        cv2.circle(canvas, (column, row), radius, rng.uniform(0.4, 1), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), max(0.6, 0.012 * extent)), np.float32)
