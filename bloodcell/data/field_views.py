"""What the finder learns from: parts of annotated fields at random sizes, in the light and stain of any laboratory.

Cells get any size from `SIZES`. Small ones come in tiles of several pictures, many of which show no cell. Colours
change far beyond those of real stains, down to grey, so that the net learns shape, texture and darkness, not a hue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.annotated_fields import AnnotatedField
from bloodcell.data.field_colours import recoloured
from bloodcell.data.field_dirt import dirtied
from bloodcell.data.images import Pixels

Floats = NDArray[np.float32]
Rng = np.random.Generator
#: Side of a view, and least and largest diameter of its cells, pixels: beyond what the net tells, so that it learns
#: what is no cell in pictures whose cells are too large for it.
SIDE, SIZES = 256, (9.0, 320.0)
#: A picture is enlarged at most so many times.
LARGER = 2.5
#: Most tiles of a view in each direction.
TILES = 8
#: Share of the views with the colours of the picture, and of those with dirt painted in.
AS_IT_IS, DIRTY = 0.1, 0.4
NO_BOXES = np.empty((0, 4), np.float32)


def view(fields: Sequence[AnnotatedField], rng: Rng) -> tuple[Pixels, Floats]:
    """Return a view, uint8 (SIDE, SIDE, 3), and its cells: centre, width and height in pixels, float32 (B, 4).

    A negative width or height is a guess.
    """
    image, boxes = _tiled(fields, rng)
    if rng.random() < DIRTY:
        image = dirtied(image, boxes, rng)
    return (image, boxes) if rng.random() < AS_IT_IS else recoloured(image, boxes, rng)


def _tiled(fields: Sequence[AnnotatedField], rng: Rng) -> tuple[Pixels, Floats]:
    """Fill a view with parts of pictures, as few as fill it."""
    size = float(np.exp(rng.uniform(*np.log(SIZES))))
    first = fields[int(rng.integers(len(fields)))]
    scale = min(size / _diameter(first, rng), LARGER)
    height, width = first.image.shape[:2]
    columns, rows = (_edges(max(scale * extent, SIDE / TILES), rng) for extent in (width, height))
    empty = rng.choice([0.25, 0.6, 0.85]) if len(columns) + len(rows) > 4 else 0.35
    canvas, found = np.zeros((SIDE, SIDE, 3), np.uint8), [NO_BOXES]
    for left, right in pairwise(columns):
        for top, bottom in pairwise(rows):
            field = first if (left, top) == (0, 0) else fields[int(rng.integers(len(fields)))]
            wanted = scale if field is first else size / _diameter(field, rng) * rng.uniform(0.85, 1.15)
            tile = right - left, bottom - top
            filling = max(wanted, tile[0] / field.image.shape[1], tile[1] / field.image.shape[0])
            part, boxes = _part(field, min(filling, LARGER), tile, rng.random() < empty, rng)
            canvas[top:bottom, left:right] = part
            found.append(boxes + np.array([left, top, 0, 0], np.float32))
    return canvas, np.concatenate(found)


def _diameter(field: AnnotatedField, rng: Rng) -> float:
    """Return the diameter of one of a field's cells; of a field without one, some size."""
    if not len(field.boxes):
        return 120.0
    return float(np.sqrt(np.abs(field.boxes[rng.integers(len(field.boxes)), 2:].prod())))


def _edges(most: float, rng: Rng) -> list[int]:
    """Return the edges of tiles of at most about `most` pixels."""
    number = int(np.ceil(SIDE / most))
    edges = np.linspace(0, SIDE, number + 1)
    edges[1:-1] += rng.uniform(-0.1, 0.1, number - 1) * SIDE / number
    return [int(edge) for edge in edges.round()]


def _part(field: AnnotatedField, scale: float, tile: tuple[int, int], empty: bool, rng: Rng) -> tuple[Pixels, Floats]:
    """Return a part of a field as a tile of some width and height, mirrored by chance, and its cells."""
    half = np.array(tile) / scale / 2
    centre = _centre(field, half, empty, rng)
    mirrored = rng.choice([1, -1], 2)
    turn = np.diag(mirrored * scale)
    shift = np.array(tile) / 2 - turn @ centre
    level = max(int(np.floor(np.log2(1 / scale) + 0.3)), 0)
    source = _reduced(field, level)
    down = np.array(field.image.shape[1::-1]) / source.shape[1::-1]
    part = cv2.warpAffine(source, np.column_stack([turn * down, shift]), tile, flags=cv2.INTER_LINEAR)
    centres = field.boxes[:, :2] @ turn.T + shift
    seen = ((centres >= 0) & (centres < tile)).all(axis=1)
    boxes = np.column_stack([centres, field.boxes[:, 2:] * scale])[seen]
    return np.asarray(part), np.asarray(boxes, np.float32)


def _centre(field: AnnotatedField, half: NDArray[np.float64], empty: bool, rng: Rng) -> NDArray[np.float64]:
    """Return the centre of a part of some half width and height: one without a cell if there is one, or with a cell."""
    extent = np.array(field.image.shape[1::-1])

    def inside(place: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(extent >= 2 * half, np.clip(place, half, np.maximum(extent - half, half)), extent / 2)

    if len(field.boxes) and not empty:
        chosen = field.boxes[rng.integers(len(field.boxes)), :2]
        return inside(chosen + rng.uniform(-0.9, 0.9, 2) * half)
    for _ in range(8):
        place = inside(rng.uniform(0, extent))
        if not (np.abs(field.boxes[:, :2] - place) < half + 0.4 * np.abs(field.boxes[:, 2:])).all(axis=1).any():
            break
    return place


@cache
def _levels(field: AnnotatedField) -> list[Pixels]:
    return [field.image]


def _reduced(field: AnnotatedField, level: int) -> Pixels:
    """Return a field's picture at half its size, or half of that ...: it is made once."""
    levels = _levels(field)
    while len(levels) <= level:
        height, width = levels[-1].shape[:2]
        size = max(width // 2, 1), max(height // 2, 1)
        levels.append(np.asarray(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)))
    return levels[level]
