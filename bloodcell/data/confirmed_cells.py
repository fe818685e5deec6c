"""Which decision of a corrections file is on which cell of a picture, and what follows for the cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from bloodcell.data.cells import Cell
from bloodcell.data.correction_lines import BOX
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL, Box, Corrections, Decision

#: In place of a label: the last decisions of several persons differ.
DISAGREEMENT = "readers disagree"


class Confirmed(NamedTuple):
    """What humans say on the cells of a picture."""

    labels: list[str]  # of each cell: a class, `NO_CELL`, `CANNOT_TELL` or `DISAGREEMENT`; '': nobody has decided
    unmatched: int  # decisions that hold, but match no cell


def confirmed(decisions: Sequence[Decision], boxes: Sequence[Box] | None) -> Confirmed:
    """Return what the decisions on a picture say on its cells.

    A decision is on the cell whose box has the centre of its own box; if several have, on that with the nearest
    centre. Without a box it is on the only cell of the picture.

    Args:
        decisions: In their order.
        boxes: Of the cells; None: the picture is one cell, and no decision on a cell with a number is on it.
    """
    cells = None if boxes is None else [Cell(*box) for box in boxes]
    held: dict[tuple[object, str], str] = {}
    for one in decisions:
        place = _place(one, cells)
        held[one.place if place is None else place, one.who] = one.label
    said: list[set[str]] = [set() for _ in (cells if cells is not None else [None])]
    unmatched = 0
    for (where, _), label in held.items():
        if label and isinstance(where, int):
            said[where].add(label)
        elif label:
            unmatched += 1
    return Confirmed([_agreed(labels) for labels in said], unmatched)


def _place(decision: Decision, cells: Sequence[Cell] | None) -> int | None:
    """Return the number, from 0, of the cell that a decision is on."""
    if cells is None:
        return 0 if decision.cell is None else None
    if decision.box is None:
        return 0 if len(cells) == 1 else None
    x, y = Cell(*decision.box).centre
    near = [(math.dist(cell.centre, (x, y)), place) for place, cell in enumerate(cells) if cell.holds(x, y)]
    return min(near)[1] if near else None


def _agreed(labels: set[str]) -> str:
    return next(iter(labels), "") if len(labels) < 2 else DISAGREEMENT


def confirmed_column(cells: pd.DataFrame, corrections: Corrections) -> tuple[pd.Series, dict[str, int]]:
    """Return what humans say on each cell of a table of `predict`, and of each picture the decisions without a cell.

    Returns:
        A label of `Confirmed` for each row; and path -> number of decisions that match no cell, above 0.
    """
    column, unmatched = pd.Series("", cells.index, dtype=object), {}
    rows_of = cells.groupby("path", sort=False).indices
    of_fields = "width" in cells
    for path, decisions in corrections.by_path().items():
        rows = rows_of.get(path, [])
        boxes = [] if not len(rows) else _boxes(cells.iloc[rows]) if of_fields else None
        found = confirmed(decisions, boxes)
        column.iloc[rows] = found.labels
        unmatched[path] = found.unmatched
    return column, {path: number for path, number in unmatched.items() if number}


def _boxes(cells: pd.DataFrame) -> list[Box]:
    return [(left, top, width, height) for left, top, width, height in cells[list(BOX)].to_numpy(float).tolist()]


def is_class(label: str) -> bool:
    """Return whether a label of `Confirmed` is a class: the cell is known."""
    return label not in ("", NO_CELL, CANNOT_TELL, DISAGREEMENT)
