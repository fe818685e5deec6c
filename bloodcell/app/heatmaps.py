"""The pictures of an image on the page: small, and with its Grad-CAM."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from bloodcell.data.cell_finder import cut, whole_square
from bloodcell.evaluation.gallery import map_of, overlaid
from bloodcell.inference.engine import Engine
from bloodcell.runtime.html import embedded

Array = np.ndarray[Any, np.dtype[Any]]


def looked_at(picture: Array, shown: Array, engine: Engine, prediction: str) -> Array:
    """Return a small picture with the Grad-CAM of a class over the part that the net saw.

    Args:
        picture: uint8 (H, W, 3).
        shown: The same, small.
        engine: Of a classifier whose net can be looked into.
        prediction: The class.

    Raises:
        NoMapError: The net has no such map.
    """
    assert engine.classifier is not None
    ((pixels, square),) = engine.preprocessing.prepare([picture])
    seen = map_of(engine.classifier, torch.from_numpy(pixels).permute(2, 0, 1), prediction)
    if square is None:
        return overlaid(shown, seen)
    scale = shown.shape[1] / picture.shape[1]
    left, top, side = whole_square(shown, *(scale * length for length in square))
    covered = overlaid(cut(shown, left, top, side), seen)
    result = shown.copy()
    inside = result[max(top, 0) : top + side, max(left, 0) : left + side]
    inside[:] = covered[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    return result


def address_of(picture: Array) -> str:
    """Return an address that holds a picture, uint8 (H, W, 3), as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return embedded(buffer.getvalue())
