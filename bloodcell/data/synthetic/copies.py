"""Augmented copies of a photograph, made like those of the Kaggle set, with the box of the cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.images import Pixels
from bloodcell.data.synthetic.painter import HEIGHT, WIDTH, Box, clip_box


@dataclass(frozen=True)
class CopyStrength:
    """How much a copy may differ from its photograph: the largest change in either direction."""

    rotation: float  # degrees
    shift: float  # share of width and of height
    shear: float  # radians, as in Keras 1
    zoom: float = 0.0  # share of the size
    light: float = 0.0  # share of brightness and of contrast


#: "kaggle" is the strength of the Kaggle set; "mild" is well below it, "strong" well above.
STRENGTHS = {
    "mild": CopyStrength(rotation=8, shift=0.04, shear=0.05),
    "kaggle": CopyStrength(rotation=20, shift=0.10, shear=0.2),
    "strong": CopyStrength(rotation=35, shift=0.15, shear=0.3, zoom=0.2, light=0.2),
}


def make_copy(photograph: Pixels, box: Box, strength: CopyStrength, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """Rotate, shift, shear and mirror a photograph, uint8 (240, 320, 3), and its cell's box; the fill is black."""
    matrix = _affine(strength, rng)
    while not _shows_cell(matrix, box):
        matrix = _affine(strength, rng)
    copy = cv2.warpAffine(photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    contrast, brightness = 1 + rng.uniform(-strength.light, strength.light, size=2)
    table = 255 * brightness * np.linspace(0, 1, 256) ** contrast  # leaves the black fill black
    copy = cv2.LUT(copy, np.clip(table.round(), 0, 255).astype(np.uint8))
    return np.asarray(copy, np.uint8), _move_box(box, matrix)


def _affine(strength: CopyStrength, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an affine map from the photograph's pixels to the copy's, (2, 3), about the image centre."""
    turn = np.deg2rad(rng.uniform(-strength.rotation, strength.rotation))
    shear = rng.uniform(-strength.shear, strength.shear)
    mirror = np.where(rng.uniform(size=2) < (0.5, 0.25), -1.0, 1.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]]) @ np.diag(mirror)
    linear *= 1 + rng.uniform(-strength.zoom, strength.zoom)
    centre = np.array([WIDTH, HEIGHT]) / 2
    shift = rng.uniform(-strength.shift, strength.shift, size=2) * 2 * centre
    return np.column_stack([linear, centre + shift - linear @ centre])


def _shows_cell(matrix: NDArray[Any], box: Box) -> bool:
    """Return whether the centre of the cell stays at least 30 pixels inside the copy."""
    x, y = matrix @ ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1)
    return bool(30 <= x <= WIDTH - 30 and 30 <= y <= HEIGHT - 30)


def _move_box(box: Box, matrix: NDArray[Any]) -> Box:
    """Return the bounding box of the ellipse inscribed in a box, after an affine map."""
    x0, y0, x1, y1 = box
    x, y = matrix @ ((x0 + x1) / 2, (y0 + y1) / 2, 1)
    half_x, half_y = np.hypot(*(matrix[:, :2] * ((x1 - x0) / 2, (y1 - y0) / 2)).T)
    return clip_box(x - half_x, y - half_y, x + half_x, y + half_y)
