"""The cells of a field as GeoJSON that QuPath reads as detections.

The names of the properties are QuPath's since 0.4, in `qupath.lib.io.PathObjectTypeAdapters` of its source
(https://github.com/qupath/qupath); coordinates are pixels from the upper left corner.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from bloodcell.data.cells import Cell
from bloodcell.metrics.predictions import PROBABILITY
from bloodcell.runtime.colours import COLOURS, rgb
from bloodcell.runtime.io import DIGITS

Array = np.ndarray[Any, np.dtype[Any]]


def feature_collection(cells: list[Cell], probabilities: Array, classes: list[str]) -> dict[str, Any]:
    """Return the boxes of N cells as plain values, with their probabilities, float64 (N, classes)."""
    colours = [list(rgb(colour)) for _, colour in zip(classes, cycle(COLOURS), strict=False)]
    features = []
    for number, (cell, chances) in enumerate(zip(cells, probabilities, strict=True), start=1):
        best = int(chances.argmax())
        numbers = {PROBABILITY + name: chance for name, chance in zip(classes, chances, strict=True)}
        numbers["confidence"] = chances[best]
        properties = {
            "objectType": "detection",
            "name": str(number),
            "classification": {"name": classes[best], "color": colours[best]},
            "measurements": {name: float(f"{value:.{DIGITS}g}") for name, value in numbers.items()},
        }
        features.append({"type": "Feature", "geometry": _polygon(*cell.box), "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _polygon(left: int, top: int, width: int, height: int) -> dict[str, Any]:
    right, bottom = left + width, top + height
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}
