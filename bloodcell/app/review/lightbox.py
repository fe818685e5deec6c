"""One cell seen closely: its field, the part that the net sees, its Grad-CAM, and the nearest training cells."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from bloodcell.app.review.desk import Sheet
from bloodcell.data.cell_finder import cut
from bloodcell.data.cells import Cell
from bloodcell.data.correction_lines import BOX
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image
from bloodcell.evaluation.gallery import fitted, map_of, overlaid
from bloodcell.metrics.predictions import PROBABILITY
from bloodcell.models.gradcam import NoMapError

Array = np.ndarray[Any, np.dtype[Any]]
#: Longer side of the field and of the part around the cell, pixels.
FIELD, PART = 1024, 384
#: Likeliest classes whose training cells are shown.
CLASSES = 2


def about_cell(sheet: Sheet, row: int) -> dict[str, Any]:
    """Return plain values of a cell: its picture's name and size, its box there, and the probabilities."""
    cell = sheet.cells.table.iloc[row]
    with Image.open(sheet.reader.folder.files[cell["path"]]) as opened:  # only the header
        size = opened.size
    classes = sheet.reader.classes
    return {
        "path": cell["path"],
        "number": int(cell["number"]) if sheet.cells.of_fields else None,
        "size": list(size),
        "box": _place(sheet, row),
        "probabilities": [float(cell[PROBABILITY + name]) for name in classes],
        "prediction": cell["prediction"],
        "unlike": "unlike" in cell and bool(cell["unlike"]),
        "abstained": bool(cell["abstained"]),
    }


def _place(sheet: Sheet, row: int) -> list[float] | None:
    """Return left, top, width and height of the cell's box, or of the square around it; None: the whole picture."""
    cell = sheet.cells.table.iloc[row]
    if sheet.cells.of_fields:
        return [float(cell[name]) for name in BOX]
    if cell[["left", "top", "side"]].isna().any():
        return None
    return [float(cell["left"]), float(cell["top"]), float(cell["side"]), float(cell["side"])]


def nearest(sheet: Sheet, row: int) -> dict[str, Any]:
    """Return the training cells of the likeliest classes that are nearest to a cell, or why there is none."""
    cell, examples = sheet.cells.table.iloc[row], sheet.examples
    if examples.missing:
        return {"missing": examples.missing, "classes": []}
    likely = sorted(sheet.reader.classes, key=lambda name: -cell[PROBABILITY + name])[:CLASSES]
    found = [(name, examples.nearest(sheet.cells.features[row], name)) for name in likely]
    if not any(cells for _, cells in found):
        return {"missing": "the training cells are still being judged", "classes": []}
    classes = [
        {"name": name, "cells": [{"id": one.number, "path": one.path, "likeness": one.likeness} for one in cells]}
        for name, cells in found
    ]
    return {"missing": "", "classes": classes}


def field_picture(sheet: Sheet, row: int) -> bytes:
    """Return the picture that a cell is in, a JPEG of at most `FIELD` pixels.

    Raises:
        ImageError: It cannot be read any more.
    """
    picture = _picture(sheet, row)
    return _jpeg(fitted(picture, FIELD) if max(picture.shape[:2]) > FIELD else picture)


def part_picture(sheet: Sheet, row: int) -> bytes:
    """Return the part of the picture that the net sees, a JPEG; see `field_picture`."""
    picture = _picture(sheet, row)
    square = _square(sheet, row, picture)
    return _jpeg(fitted(cut(picture, *square) if square else picture, PART))


def map_picture(sheet: Sheet, row: int) -> bytes:
    """Return the Grad-CAM of the predicted class over the same part, a JPEG.

    Raises:
        ImageError: The picture cannot be read any more.
        NoMapError: The net has no such map.
    """
    engine = next((one for one in sheet.reader.ensemble.engines if one.classifier is not None), None)
    if engine is None or engine.classifier is None:
        raise NoMapError("no Grad-CAM: the file has no net to look into")
    picture, prediction = _picture(sheet, row), str(sheet.cells.table["prediction"].iloc[row])
    square = _square(sheet, row, picture)
    if sheet.cells.of_fields:
        ((pixels, _),) = engine.preprocessing.cut_cells(picture, [_cell(sheet, row)])
    else:
        ((pixels, _),) = sheet.reader.ensemble.seen[0].prepare([picture])
    seen = map_of(engine.classifier, torch.from_numpy(pixels).permute(2, 0, 1), prediction)
    return _jpeg(overlaid(fitted(cut(picture, *square) if square else picture, PART), seen))


def _square(sheet: Sheet, row: int, picture: Array) -> tuple[int, int, int] | None:
    preprocessing = sheet.reader.ensemble.seen[0]
    return (
        preprocessing.square_around(picture, _cell(sheet, row))
        if sheet.cells.of_fields
        else preprocessing.square(picture)
    )


def _cell(sheet: Sheet, row: int) -> Cell:
    left, top, width, height = (float(value) for value in sheet.cells.table[list(BOX)].iloc[row])
    return Cell(left, top, width, height)


def _picture(sheet: Sheet, row: int) -> Array:
    file = sheet.reader.folder.files[sheet.cells.table["path"].iloc[row]]
    try:
        return read_image(file, white=sheet.reader.ensemble.white)
    except ImageError as error:
        raise ImageError(f"{file}: {error}") from error


def _jpeg(picture: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
