"""Which decision of a corrections file is on which cell of a picture, and what follows for the cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
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
    centre. Without a box it is on the only cell of the picture. If a person has seen two cells in one box, the decision
    on the nearer one is taken, and the other matches no cell.

    Args:
        decisions: In their order.
        boxes: Of the cells; None: the picture is one cell, and no decision on a cell with a number is on it.
    """
    cells = None if boxes is None else [Cell(*box) for box in boxes]
    held: dict[tuple[object, str], Decision] = {}
    for one in decisions:
        place, nearer = _place(one, cells), one
        before = None if place is None else held.get((place, one.who))
        if before is not None and cells is not None and place is not None and _apart(before, one):
            nearer, farther = sorted((before, one), key=partial(_distance, cells[place]))
            held[farther.place, farther.who] = farther
        held[one.place if place is None else place, one.who] = nearer
    said: list[set[str]] = [set() for _ in (cells if cells is not None else [None])]
    unmatched = 0
    for (where, _), one in held.items():
        if one.label and isinstance(where, int):
            said[where].add(one.label)
        elif one.label:
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


def _apart(one: Decision, other: Decision) -> bool:
    """Return whether two decisions are on two cells: neither box has the centre of the other."""
    if one.box is None or other.box is None:
        return False
    first, second = Cell(*one.box), Cell(*other.box)
    return not first.holds(*second.centre) and not second.holds(*first.centre)


def _distance(cell: Cell, decision: Decision) -> float:
    return math.dist(cell.centre, Cell(*decision.box).centre) if decision.box else 0.0


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
