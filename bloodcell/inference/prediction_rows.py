"""The rows of a table of predictions: one for each image, or for each cell of a field."""

from __future__ import annotations

from typing import Any

from bloodcell.data.image_paths import relative_to
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.groups import Group
from bloodcell.inference.resumable_csv import Rows
from bloodcell.metrics.predictions import PROBABILITY
from bloodcell.runtime.io import DIGITS

#: Columns behind the probabilities, and the same of the cells of fields.
FURTHER = ("confidence", "abstained", "left", "top", "side", "cell", "unlike", "other")
OF_CELLS = ("confidence", "abstained", "left", "top", "width", "height", "border", "unlike", "other")

#: The cells of a table's row by column.
Row = dict[str, Any]


def columns_of(classes: list[str], of_cells: bool = False) -> list[str]:
    """Return the columns of the table, whose rows are images or the cells of fields."""
    first, further = (["path", "number"], OF_CELLS) if of_cells else (["path"], FURTHER)
    return [*first, "prediction", "confirmed", *(PROBABILITY + name for name in classes), *further]


def filled_columns(ensemble: Ensemble, threshold: float, corrected: bool = False) -> list[str]:
    """Return the columns that this ensemble fills: theirs would be empty without abstention, cells, limits or others.

    `corrected` says whether there are decisions of humans.
    """
    empty = (set() if threshold else {"abstained"}) | (set() if corrected else {"confirmed"})
    if not ensemble.finds_all and not any(one.crops_cell for one in ensemble.preprocessings):
        empty |= {"left", "top", "side", "cell"}
    if not ensemble.left_out:
        empty |= {"other", *("unlike" for engine in ensemble.engines if engine.limits is None)}
    return [name for name in columns_of(ensemble.classes, ensemble.finds_all) if name not in empty]


def written_row(row: Row, columns: list[str], base: str = "") -> list[Any]:
    """Return a row of `rows_of` with the chosen columns, a relative path and numbers of `DIGITS` significant digits."""
    cells = row | {"path": relative_to(row["path"], base)}
    return [float(f"{cells[name]:.{DIGITS}g}") if isinstance(cells[name], float) else cells[name] for name in columns]


def rows_of(group: Group, classes: list[str], threshold: float) -> tuple[list[Row], Rows, dict[str, int]]:
    """Return a group's rows, with all columns of `columns_of` but confirmed, the rows of its bad files, and counts."""
    sure = group.probabilities.max(axis=1, initial=0)
    best = group.probabilities.argmax(axis=1).tolist()
    unlike = [None] * len(group.images) if group.unlike is None else group.unlike.tolist()
    others: list[str | None] = [None] * len(group.images) if group.others is None else list(group.others)
    numbers = best, group.probabilities.tolist(), sure.tolist()
    names = [PROBABILITY + name for name in classes]
    rows = [
        {"path": path, "prediction": classes[number], **dict(zip(names, chances, strict=True)), "unlike": strange}
        | {"confidence": confidence, "abstained": confidence < threshold, "other": other, **place}
        for path, strange, other, number, chances, confidence, place in zip(
            group.images, unlike, others, *numbers, _places(group), strict=True
        )
    ]
    counts = {
        "images": len(rows) if group.fields is None else len(group.fields),
        "bad": len(group.bad),
        "abstained": int((sure < threshold).sum()),
        "unlike": unlike.count(True),
        "without cell": group.cells.count("none"),
        "blank": len(group.blanks) - group.blanks.count(""),
    }
    if group.others is not None:
        counts["other"] = len(others) - others.count("")
    if group.fields is not None:
        counts |= {"cells": len(rows), "without cell": sum(not one.cells for one in group.fields)}
    return rows, group.bad, counts


def _places(group: Group) -> list[Row]:
    """Return for each row where its cell is."""
    if group.fields is None:
        squares = (square or ("", "", "") for square in group.squares)
        return [
            dict(zip(("left", "top", "side", "cell"), (*square, cell), strict=True))
            for square, cell in zip(squares, group.cells, strict=True)
        ]
    numbered = [one for field in group.fields for one in enumerate(field.cells, start=1)]
    names = "left", "top", "width", "height"
    return [
        {"number": number, **dict(zip(names, cell.box, strict=True)), "border": bool(cell.border)}
        for number, cell in numbered
    ]
