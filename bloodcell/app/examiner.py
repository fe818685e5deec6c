"""One uploaded image: from its bytes to everything that the page shows."""

from __future__ import annotations

import dataclasses
import io
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from PIL import Image

from bloodcell.data.cell_finder import cut, whole_square
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image
from bloodcell.evaluation.gallery import fitted, map_of, overlaid
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.groups import Group
from bloodcell.inference.prediction_rows import filled_columns, rows_of, written_row
from bloodcell.inference.resumable_csv import lines
from bloodcell.models.gradcam import NoMapError
from bloodcell.runtime.html import embedded

Array = np.ndarray[Any, np.dtype[Any]]

#: Longer side of a picture on the page, pixels.
SIDE = 480


class Examiner:
    """Predicts images as `bloodcell predict` does, and stores none.

    Args:
        ensemble: What predicts.
        threshold: An answer of lower confidence is not sure.
        max_pixels: Largest size of an image.

    Attributes:
        header: The first line of the table, as `bloodcell predict` writes it.
        no_map: Why there is no Grad-CAM; '' if there is one.
    """

    def __init__(self, ensemble: Ensemble, threshold: float, max_pixels: int) -> None:
        self.ensemble, self.threshold, self.max_pixels = ensemble, threshold, max_pixels
        self.columns = filled_columns(ensemble, threshold)
        self.header = lines([self.columns]).decode()
        self.explaining = next((engine for engine in ensemble.engines if engine.classifier is not None), None)
        self.no_map = "" if self.explaining else "its file has no net to look into"
        grey = np.full((64, 64, 3), 200, np.uint8)  # warms up the net, and shows whether Grad-CAM works
        group = self._predicted("grey", grey)
        try:
            self._looked(grey, grey, group)
        except NoMapError as error:
            self.no_map, self.explaining = str(error), None

    def examine(self, name: str, content: bytes) -> dict[str, Any]:
        """Return what the page shows of an image.

        Args:
            name: What the table calls it; never a path that is opened.
            content: Of the file.

        Returns:
            Plain values: `row`, its line of the table; `prediction`, `probabilities` in the order of the classes,
            `confidence`, `abstained`, `cell` and `unlike` as in the table; `size`, width and height of the upright
            image, and `square` in its pixels, or None; `picture` and `looked`, the image and its Grad-CAM as addresses
            that hold them, the second None if there is none.

        Raises:
            ImageError: It cannot be read, or there is no finite answer.
        """
        picture = read_image(content, self.max_pixels)
        group = self._predicted(name, picture)
        (row,), _, _ = rows_of(group, self.ensemble.classes, self.threshold)
        shown, looked = fitted(picture, SIDE), None
        with suppress(NoMapError):  # its values may overflow for this picture alone
            looked = self._looked(picture, shown, group)
        return {
            "row": lines([written_row(row, self.columns)]).decode(),
            **{key: row[key] for key in ("prediction", "confidence", "abstained", "cell", "unlike")},
            "probabilities": group.probabilities[0].tolist(),
            "size": [picture.shape[1], picture.shape[0]],
            "square": group.squares[0],
            "picture": address_of(shown),
            "looked": looked,
        }

    def _predicted(self, name: str, picture: Array) -> Group:
        (group,) = self.ensemble.predict([[picture]], count=1, threads=1)
        for _, reason in group.bad:
            raise ImageError(reason)
        return dataclasses.replace(group, given=[name], images=[name])

    def _looked(self, picture: Array, shown: Array, group: Group) -> str | None:
        """Return the Grad-CAM of the predicted class by the first member that has one; None: none has."""
        if self.explaining is None:
            return None
        prediction = self.ensemble.classes[int(group.probabilities[0].argmax())]
        return address_of(looked_at(picture, shown, self.explaining, prediction))


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
