"""report.html of a differential count: shares with intervals, example cells, and what was left out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from bloodcell.evaluation.differentials.cell_pictures import CellPicture, cell_pictures, examples
from bloodcell.evaluation.differentials.count_text import left_out_text, needed_text, others_text
from bloodcell.evaluation.differentials.slide_counts import SlideCount, decisions_on, reasons_of
from bloodcell.evaluation.svg import Axis, Series, forest, ticks_up_to
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import white_of
from bloodcell.metrics.white_cells import is_white
from bloodcell.runtime.html import percent, write_page

#: Slides that are shown; example cells of a class; pictures of cells on the page, about: 2 MB.
MOST, EXAMPLES, PICTURES = 40, 6, 600


def write_report(
    file: Path, slides: Sequence[SlideCount], notes: list[str], cells: pd.DataFrame, root: Path, engines: list[Engine]
) -> None:
    """Write the page of some slides: one file, which loads nothing.

    Args:
        file: The page.
        slides: The counts.
        notes: What a reader should know.
        cells: The table of all their cells, with a column slide and, if humans have decided on cells, confirmed.
        root: The folder of the pictures.
        engines: The classifiers.
    """
    shown = slides[:MOST]
    results = [one.result for one in slides if one.result is not None]
    found = {one.name for result in results for one in result.shares}
    found |= {one.name for result in results for one in result.others}
    classes = [name for name in engines[0].known if name in engines[0].classes or name in found]
    each = max(1, min(EXAMPLES, PICTURES // (len(shown) * len(classes))))
    counted = cells[reasons_of(cells) == ""]
    said = decisions_on(counted)
    counted = counted.assign(counted_as=counted["prediction"].where(said == "", said), confirmed=said != "")
    white = white_of(engines)
    write_page(
        file, "bloodcell.evaluation", "differential.html",
        date=time.strftime("%Y-%m-%d"),
        root=str(root),
        checkpoint=", ".join(str(engine.file) for engine in engines),
        notes=[note.replace(" %", "\N{NO-BREAK SPACE}%") for note in notes],
        classes=[name for name in classes if is_white(name)],
        others=[name for name in classes if not is_white(name)],
        corrected=any(one.result.corrected for one in slides if one.result),
        confirmed=any(one.confirmed for one in slides),
        all_slides=len(slides),
        sections=[_section(one, counted[counted["slide"] == one.name], each, root, white) for one in shown],
    )  # fmt: skip


def _section(slide: SlideCount, cells: pd.DataFrame, each: int, root: Path, white: float | None) -> dict[str, Any]:
    pictures = cell_pictures(examples(cells, each), root, white)
    shares = slide.result.shares if slide.result else ()
    others = slide.result.others if slide.result else ()
    names = [one.name for one in shares if one.count] + [one.name for one in others if one.count]
    return {
        "slide": slide,
        "shares": shares,
        "others": others,
        "chart": _chart(slide) if slide.result else None,
        "left_out": left_out_text(slide),
        "beside": others_text(slide),
        "needed": needed_text(slide).replace("+-", "±"),
        "pictures": {name: _of_class(pictures, name) for name in names},
    }


def _of_class(pictures: list[CellPicture], name: str) -> list[CellPicture]:
    return [one for one in pictures if one.name == name]


def _chart(slide: SlideCount) -> Markup:
    """Draw share and interval of each class, and the share as counted if the shares are corrected."""
    assert slide.result is not None
    shares = slide.result.shares
    low, share, high = ([getattr(one, name) for one in shares] for name in ("low", "share", "high"))
    series = [Series(low, (), "one", "ranges", high), Series(share, (), "one", "dots")]
    if slide.result.corrected:
        uncorrected = [one.count / slide.counted for one in shares]
        series.insert(1, Series(uncorrected, (), "two", "dots"))
    label = ", ".join(f"{one.name} {percent(one.share)} ({percent(one.low)} to {percent(one.high)})" for one in shares)
    axis = Axis("share of the white cells", ticks_up_to(max(high)))
    return forest(f"Shares on {slide.name}: {label}", axis, [one.name for one in shares], series)
