"""The cells of a field as regions of interest that ImageJ and Fiji read: a .zip with one for each cell."""

from __future__ import annotations

import io
import zipfile
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.data.cells import Cell
from bloodcell.runtime.colours import COLOURS, rgb
from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]

#: Largest whole number in a ROI: boxes of whole slides lie beyond, so ImageJ takes the place in floating point.
SHORT = 32_767
#: The time of each file in an archive, so that the same cells give the same bytes.
TIME = (1980, 1, 1, 0, 0, 0)


def require_roifile(folder: Path) -> Any:
    """Return the module that writes ROIs; raise BloodcellError if it is not installed."""
    try:
        import roifile
    except ImportError as error:
        raise BloodcellError(f"rois={folder}: ROIs need roifile: pip install 'bloodcell[rois]'") from error
    return roifile


def roi_archive(cells: list[Cell], probabilities: Array, classes: list[str]) -> bytes:
    """Return the boxes of N cells as the bytes of a .zip; a ROI has the cell's number and class, and its colour.

    `probabilities` are those of the cells, float64 (N, classes).
    """
    import roifile

    colours = [bytes([255, *rgb(colour)]) for _, colour in zip(classes, cycle(COLOURS), strict=False)]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for number, (cell, best) in enumerate(zip(cells, probabilities.argmax(axis=1), strict=True), start=1):
            left, top, width, height = cell.box
            right, bottom = left + width, top + height
            name = f"{number:04d} {classes[best]}"
            roi = roifile.ImagejRoi(
                version=228, roitype=roifile.ROI_TYPE.RECT, options=roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
                left=min(left, SHORT), top=min(top, SHORT), right=min(right, SHORT), bottom=min(bottom, SHORT),
                xd=left, yd=top, widthd=width, heightd=height, name=name, stroke_color=colours[best], stroke_width=2,
            )  # fmt: skip
            opened.writestr(zipfile.ZipInfo(f"{name.replace('/', '_')}.roi", TIME), roi.tobytes(), zipfile.ZIP_DEFLATED)
    return archive.getvalue()
