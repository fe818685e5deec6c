"""Augmented copies of one photograph, made as the Kaggle set was made, with the box carried along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from bloodcell.data.synthetic.painter import HEIGHT, WIDTH, Box, Pixels, clip_box


@dataclass(frozen=True)
class Copying:
    """How strongly a copy may differ from its photograph: each value is the largest, either way."""

    rotation: float  # degrees
    shift: float  # share of width and of height
    shear: float  # radians, as in Keras 1
    zoom: float = 0.0  # share of the size
    light: float = 0.0  # share of brightness and of contrast


#: "kaggle" is what the Kaggle set was made with; "mild" is well inside it, "strong" well outside.
STRENGTHS = {
    "mild": Copying(rotation=8, shift=0.04, shear=0.05),
    "kaggle": Copying(rotation=20, shift=0.10, shear=0.2),
    "strong": Copying(rotation=35, shift=0.15, shear=0.3, zoom=0.2, light=0.2),
}


def make_copy(picture: Pixels, box: Box, copying: Copying, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """Make one augmented copy: turned, shifted, sheared, mirrored; black where the photograph ends.

    Args:
        picture: The photograph, uint8, (240, 320, 3).
        box: The white cell's x0, y0, x1, y1 in it, pixels.
        copying: How strongly the copy may differ.
        rng: Source of the change.

    Returns:
        The copy, of the same size, and the cell's box in it.
    """
    matrix = _transformation(copying, rng)
    while not _shows(matrix, box):
        matrix = _transformation(copying, rng)
    copy = cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    contrast, brightness = 1 + rng.uniform(-copying.light, copying.light, size=2)
    table = 255 * brightness * np.linspace(0, 1, 256) ** contrast  # leaves the black fill black
    copy = cv2.LUT(copy, np.clip(table.round(), 0, 255).astype(np.uint8))
    return np.asarray(copy, np.uint8), _move_box(box, matrix)


def _transformation(copying: Copying, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw an affine map of the photograph's pixels to the copy's, (2, 3), about the centre of the field."""
    turn = np.deg2rad(rng.uniform(-copying.rotation, copying.rotation))
    shear = rng.uniform(-copying.shear, copying.shear)
    mirror = np.where(rng.uniform(size=2) < (0.5, 0.25), -1.0, 1.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]]) @ np.diag(mirror)
    linear *= 1 + rng.uniform(-copying.zoom, copying.zoom)
    centre = np.array([WIDTH, HEIGHT]) / 2
    shift = rng.uniform(-copying.shift, copying.shift, size=2) * 2 * centre
    return np.column_stack([linear, centre + shift - linear @ centre])


def _shows(matrix: np.ndarray[Any, Any], box: Box) -> bool:
    """Say whether the cell's middle stays in the field: a copy without its cell teaches nothing."""
    x, y = matrix @ ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1)
    return bool(30 <= x <= WIDTH - 30 and 30 <= y <= HEIGHT - 30)


def _move_box(box: Box, matrix: np.ndarray[Any, Any]) -> Box:
    """Box of the ellipse inscribed in a box, after an affine map: cells are round, and have no corners."""
    x0, y0, x1, y1 = box
    x, y = matrix @ ((x0 + x1) / 2, (y0 + y1) / 2, 1)
    half_x, half_y = np.hypot(*(matrix[:, :2] * ((x1 - x0) / 2, (y1 - y0) / 2)).T)
    return clip_box(x - half_x, y - half_y, x + half_x, y + half_y)
