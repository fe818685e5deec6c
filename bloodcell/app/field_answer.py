"""One uploaded picture of a field: every cell with its box, its class, and whether it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bloodcell.evaluation.differentials.slide_counts import reasons_of
from bloodcell.evaluation.gallery import fitted
from bloodcell.inference.groups import Group
from bloodcell.inference.prediction_rows import columns_of, rows_of, written_row
from bloodcell.inference.resumable_csv import lines
from bloodcell.runtime.io import DIGITS

Array = np.ndarray[Any, np.dtype[Any]]

#: Longer side of a field on the page, pixels, and largest number of cells: the net gets all at once, and the browser
#: draws them.
SIDE, MOST = 1024, 1000
#: What a cell has as in the table.
SAME = ("number", "prediction", "confidence", "abstained", "unlike", "other", "border")


def shown_field(picture: Array) -> Array:
    """Return a field, uint8 (H, W, 3), as small as the page shows it; a smaller one stays as it is."""
    return fitted(picture, SIDE) if max(picture.shape[:2]) > SIDE else picture


def field_answer(group: Group, classes: list[str], threshold: float, columns: list[str]) -> dict[str, Any]:
    """Return plain values of the cells of a field.

    Args:
        group: One field with its predictions.
        classes: In the order of the probabilities.
        threshold: Cells of lower confidence are left to a human.
        columns: Of the table.

    Returns:
        `rows`, the lines of the table, and `cells`, from the top to the bottom: `number`, `box` (left, top, width and
        height, pixels of the upright image), `prediction`, `probabilities`, `confidence`, `abstained`, `unlike`,
        `other` and `border` as in the table, and `left_out`, why the cell is not counted, '' if it is.
    """
    rows, _, _ = rows_of(group, classes, threshold)
    reasons = reasons_of(pd.DataFrame(rows, columns=columns_of(classes, of_cells=True)))
    cells = [
        {
            **{key: row[key] for key in SAME},
            "box": [row[side] for side in ("left", "top", "width", "height")],
            "probabilities": [float(f"{share:.{DIGITS}g}") for share in shares],
            "left_out": reason,
        }
        for row, shares, reason in zip(rows, group.probabilities.tolist(), reasons, strict=True)
    ]
    return {"rows": lines([written_row(row, columns) for row in rows]).decode(), "cells": cells}
