"""From the cells of slides to the differential count of each: which cells count, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bloodcell.data.confirmed_cells import DISAGREEMENT, is_class
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.differential import (
    COLUMNS,
    Cells,
    Differential,
    Share,
    cells_needed,
    count_cells,
    differential_of,
)
from bloodcell.metrics.predictions import classes_of

#: Half the width of an interval to which a number of further cells is given.
HALF_WIDTH = 0.05
#: Fewer cells tell too little of the shares for that number.
FEW = 20
#: Reasons why a cell does not count, in the order in which they are looked at, with their words.
REASONS = {
    "border": "cut by the top or left border",
    "no_white_cell": "no white cell, says a human",
    "abstained": "left to a human",
    "unlike": "unlike the training data",
}


@dataclass(frozen=True)
class SlideCount:
    """The count of a slide."""

    name: str
    fields: int  # pictures that could be read
    empty: int  # pictures without a cell
    cells: int  # all that were found
    left_out: Mapping[str, int]  # cells that do not count, each under the first of the `REASONS`
    others: Mapping[str, int]  # those of the others that are no white cells, by class
    unlike: float  # share unlike the training data of the cells on which no human has decided, 0 to 1; 0 if unknown
    result: Differential | None  # None: no white cell counts
    needed: int | None = 0  # more cells for +-`HALF_WIDTH` of the widest interval; None: no number of cells does

    @property
    def counted(self) -> int:
        """Number of white cells that count."""
        return self.cells - sum(self.left_out.values()) - sum(self.others.values())

    @property
    def confirmed(self) -> int:
        """Number of white cells that count with the class which a human has given them."""
        return self.result.confirmed if self.result else 0

    @property
    def widest(self) -> Share:
        """The class with the widest interval of a slide with a result."""
        assert self.result is not None
        return max(self.result.shares, key=lambda one: one.half_width)


def decisions_on(cells: pd.DataFrame) -> pd.Series:
    """Return what humans say on each cell, see `bloodcell.data.confirmed_cells.Confirmed`; '' if nobody has decided."""
    return (
        cells["confirmed"].astype(object).fillna("")
        if "confirmed" in cells
        else pd.Series("", cells.index, dtype=object)
    )


def reasons_of(cells: pd.DataFrame) -> pd.Series:
    """Return why each cell of a table of `predict` does not count, one of the `REASONS`; '' if it does.

    A cell that the border cuts may be seen in the next picture as well, so one at the right or bottom border counts,
    and one at the left or top does not (Gundersen 1977, Journal of Microscopy 111:219-223, his counting frame),
    whatever a human says. Others count if a human has given them a class. A table of `predict` has a column only if
    some cell may have that reason.
    """
    said = decisions_on(cells)
    known, never = said.map(is_class).astype(bool), pd.Series(False, cells.index)
    left = {name: cells[name].eq(True) & ~known if name in cells else never for name in ("abstained", "unlike")}
    flags = {
        "border": (cells["left"] <= 0) | (cells["top"] <= 0) if "width" in cells else never,
        "no_white_cell": said == NO_CELL,
        "abstained": left["abstained"] | said.isin([CANNOT_TELL, DISAGREEMENT]),
        "unlike": left["unlike"],
    }
    return pd.Series(np.select(list(flags.values()), list(flags), ""), cells.index)


def count_slides(cells: pd.DataFrame, fields: Mapping[str, int], confusion: Confusion | None) -> list[SlideCount]:
    """Count the cells of each slide.

    Args:
        cells: A table of `predict` with a column slide and, if humans have decided on cells, confirmed.
        fields: The slides, and the number of pictures of each that could be read.
        confusion: Of the classifier; None: unknown.
    """
    reasons, classes = reasons_of(cells), classes_of(cells)
    confirmed = {name for name in decisions_on(cells) if is_class(name)}
    classes += sorted(confirmed.difference(classes))  # humans may know more classes than may be answered
    return [
        _count(name, number, cells[cells["slide"] == name], reasons, classes, confusion)
        for name, number in fields.items()
    ]


def _count(
    name: str, fields: int, cells: pd.DataFrame, reasons: pd.Series, classes: list[str], confusion: Confusion | None
) -> SlideCount:
    own = reasons[cells.index]
    left_out = {reason: int((own == reason).sum()) for reason in REASONS}
    said = decisions_on(cells)
    open_cells = cells[said == ""]
    unlike = float(open_cells["unlike"].eq(True).mean()) if "unlike" in cells and len(open_cells) else 0.0
    empty = fields - cells["path"].nunique()
    slide = SlideCount(name, fields, empty, len(cells), left_out, {}, unlike, None)
    if not slide.counted:
        return slide
    known = (own == "") & said.map(is_class).astype(bool)
    return with_shares(
        slide, count_cells(classes, cells.loc[(own == "") & ~known, "prediction"], said[known]), confusion
    )


def with_shares(slide: SlideCount, cells: Cells, confusion: Confusion | None) -> SlideCount:
    """Return a slide with the shares of those of its cells that count, and how many more would narrow them."""
    slide = replace(slide, others=cells.others)
    if not slide.counted:
        return slide
    slide = replace(slide, result=differential_of(cells, confusion))
    return replace(slide, needed=cells_needed(cells, confusion, slide.widest.name, HALF_WIDTH))


def differential_table(slides: Sequence[SlideCount]) -> pd.DataFrame:
    """Return a row for each class of each slide with a result.

    Returns:
        Columns slide, class, count, share, low and high (0 to 1) of white cells, per_100, per_100_low and per_100_high
        of others (per 100 white cells), cells (white cells that count), and corrected.
    """
    found = [
        one.result.table().assign(slide=one.name, cells=one.counted, corrected=one.result.corrected)
        for one in slides
        if one.result is not None
    ]
    columns = ["slide", *COLUMNS, "cells", "corrected"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def slides_table(slides: Sequence[SlideCount]) -> pd.DataFrame:
    """Return a row for each slide.

    Returns:
        Columns slide, fields, cells, counted and confirmed (white cells), one for each of the `REASONS`, and not_white:
        cells of other classes. A cell that does not count is counted once, for the first of these reasons.
    """
    rows = [
        {"slide": one.name, "fields": one.fields, "cells": one.cells, "counted": one.counted}
        | {"confirmed": one.confirmed, **one.left_out, "not_white": sum(one.others.values())}
        for one in slides
    ]
    return pd.DataFrame(rows)
