"""One uploaded image, of one cell or of a field: from its bytes to everything that the page shows."""

from __future__ import annotations

import dataclasses
import io
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from PIL import Image

from bloodcell.app.field_answer import MOST, field_answer, shown_field
from bloodcell.data.cell_finder import cut, whole_square
from bloodcell.data.cells import Cell, find_cells
from bloodcell.data.image_limits import ImageError
from bloodcell.data.image_pages import other_pictures
from bloodcell.data.images import read_image
from bloodcell.data.time_limit import timed
from bloodcell.evaluation.gallery import fitted, map_of, overlaid
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.fields.choice import largest_size, least_size
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
        ensemble: What predicts an image as one cell.
        threshold: An answer of lower confidence is not sure.
        max_pixels: Largest size of an image.
        cells: one: each image is one cell; all: each is a field; auto: an image with small cells is a field.

    Attributes:
        header: The first line of the table of images, as `bloodcell predict` writes it.
        cell_header: That of the table of the cells of fields.
        no_map: Why there is no Grad-CAM; '' if there is one.
    """

    def __init__(self, ensemble: Ensemble, threshold: float, max_pixels: int, cells: str = "one") -> None:
        self.ensemble, self.threshold, self.max_pixels, self.cells = ensemble, threshold, max_pixels, cells
        self.fields = Ensemble(ensemble.engines, ensemble.tta, cells="all")
        self.columns, self.cell_columns = (filled_columns(one, threshold) for one in (ensemble, self.fields))
        self.header, self.cell_header = (lines([one]).decode() for one in (self.columns, self.cell_columns))
        self.explaining = next((engine for engine in ensemble.engines if engine.classifier is not None), None)
        self.no_map = "" if self.explaining else "its file has no net to look into"
        grey = np.full((64, 64, 3), 200, np.uint8)  # warms up the net, and shows whether Grad-CAM works
        group = self._predicted("grey", grey, ensemble)
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
            Plain values: `picture`, the image as an address that holds it, `size`, width and height of the upright
            image, and `others`, the number of further pictures of a TIFF file, which are not read. Of a field, also
            what `field_answer` returns. Of an image of one cell, also `row`, its line of the table; `prediction`,
            `probabilities` in the order of the classes, `confidence`, `abstained`, `cell`, `unlike` and `other` as in
            the table; `square` in the pixels of the image, or None; `looked`, its Grad-CAM, or None; and `found`,
            whether the finder of cells saw one, None if it did not look.

        Raises:
            ImageError: It cannot be read, has too many cells for the page, or there is no finite answer.
        """
        picture = read_image(content, self.max_pixels, self.ensemble.white)
        with timed(f"{name}: looking at its pages"):
            others = {"others": other_pictures(io.BytesIO(content))}
        found = find_cells(picture) if self.cells in ("auto", "all") else None
        if found is not None and self._is_field(picture, found):
            return self._field(name, picture, len(found)) | others
        return self._image(name, picture) | {"found": None if found is None else bool(found)} | others

    def _is_field(self, picture: Array, found: list[Cell]) -> bool:
        size = largest_size(picture, found)
        return self.cells == "all" or (size is not None and size < least_size(self.ensemble.engines))

    def _field(self, name: str, picture: Array, count: int) -> dict[str, Any]:
        if count > MOST:
            raise ImageError(f"{count:,} cells; the page shows {MOST:,} at most, bloodcell predict takes any number")
        group = self._predicted(name, picture, self.fields)
        answer = field_answer(group, self.fields.classes, self.threshold, self.cell_columns)
        size = [picture.shape[1], picture.shape[0]]
        return answer | {"size": size, "picture": address_of(shown_field(picture))}

    def _image(self, name: str, picture: Array) -> dict[str, Any]:
        group = self._predicted(name, picture, self.ensemble)
        (row,), _, _ = rows_of(group, self.ensemble.classes, self.threshold)
        shown, looked = fitted(picture, SIDE), None
        with suppress(NoMapError):  # its values may overflow for this picture alone
            looked = self._looked(picture, shown, group)
        return {
            "row": lines([written_row(row, self.columns)]).decode(),
            **{key: row[key] for key in ("prediction", "confidence", "abstained", "cell", "unlike", "other")},
            "probabilities": group.probabilities[0].tolist(),
            "size": [picture.shape[1], picture.shape[0]],
            "square": group.squares[0],
            "picture": address_of(shown),
            "looked": looked,
        }

    def _predicted(self, name: str, picture: Array, ensemble: Ensemble) -> Group:
        (group,) = ensemble.predict([[picture]], count=1, threads=1)
        for _, reason in group.bad:
            raise ImageError(reason)
        return dataclasses.replace(group, given=[name], images=[name] * len(group.images))

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
