"""What the page gets of a sheet: the columns of all cells, the labels, and the differential count."""

from __future__ import annotations

from typing import Any

import numpy as np

from bloodcell.app.review.desk import Sheet
from bloodcell.app.running_count import count_answer, shown_confusion
from bloodcell.data.confirmed_cells import DISAGREEMENT
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL
from bloodcell.evaluation.differentials.count_notes import notes_of
from bloodcell.evaluation.differentials.slide_counts import count_slides
from bloodcell.evaluation.reviews.next_cells import doubt
from bloodcell.evaluation.reviews.review import agreement_line
from bloodcell.metrics.predictions import PROBABILITY

#: Labels behind the classes, in the order in which the page numbers them; -1: none.
FURTHER = (NO_CELL, CANNOT_TELL, DISAGREEMENT)
#: What the count calls all slides together.
ALL = "all slides"


def columns_of(sheet: Sheet, slides: dict[str, str], blind: bool) -> dict[str, Any]:
    """Return plain values of all cells, a list for each column.

    `path` and `slide` are places in `paths` and `slides`, `prediction` one in the classes; `confidence` and `doubt` are
    in parts of 10,000. A blind reader gets nothing that the classifier said.
    """
    table = sheet.cells.table
    paths = list(dict.fromkeys(table["path"]))
    names = list(dict.fromkeys(slides[path] for path in paths))
    place = {path: number for number, path in enumerate(paths)}
    of_slide = {path: names.index(slides[path]) for path in paths}
    found = {
        "digest": sheet.cells.digest,
        "blind": blind,
        "paths": paths,
        "slides": names,
        "path": [place[path] for path in table["path"]],
        "slide": [of_slide[path] for path in table["path"]],
        "number": table["number"].astype(int).tolist() if sheet.cells.of_fields else None,
        "unread": sheet.cells.unread,
    }
    return found if blind else found | _answers(sheet)


def _answers(sheet: Sheet) -> dict[str, Any]:
    table, classes = sheet.cells.table, sheet.reader.classes
    shares = table[[PROBABILITY + name for name in classes]].to_numpy(float)
    known = {name: number for number, name in enumerate(classes)}
    unlike = table["unlike"].eq(True).astype(int).tolist() if "unlike" in table else None
    return {
        "prediction": [known[name] for name in table["prediction"]],
        "confidence": np.round(1e4 * table["confidence"].to_numpy(float)).astype(int).tolist(),
        "doubt": np.round(1e4 * doubt(shares)).astype(int).tolist(),
        "abstained": table["abstained"].astype(int).tolist(),
        "unlike": unlike,
    }


def labels_of(sheet: Sheet, blind: bool) -> dict[str, Any]:
    """Return the labels of all cells as numbers: the person's own, and what all persons say."""
    known = {name: number for number, name in enumerate([*sheet.reader.classes, *FURTHER])}
    decisions = sheet.decisions
    own = [known.get(label, -1) for label in decisions.own]
    every = own if blind else [known.get(label, -1) for label in decisions.labels]
    return {"own": own, "all": every, "version": decisions.version}


def agreements_of(sheet: Sheet) -> dict[str, Any]:
    """Return a sentence on the agreement of each two readers."""
    return {"lines": [agreement_line(one) for one in sheet.decisions.agreements()]}


def count_of(sheet: Sheet, slides: dict[str, str], slide: str) -> dict[str, Any]:
    """Return the differential count of a slide, '' for all, with the confirmed cells as known.

    Returns:
        `cells`, white ones that count, `confirmed` among them, whether the shares are `corrected`, `shares` (name,
        count, share, low and high), and sentences: `left_out`, `others`, `needed`, '' if there is nothing to say, and
        `notes`.
    """
    reader = sheet.reader
    table = sheet.cells.table.assign(confirmed=list(sheet.decisions.labels))
    chosen = [path for path in reader.folder.files if slide in ("", slides[path])]
    table = table[table["path"].isin(chosen)].assign(slide=slide or ALL)
    fields = len(set(chosen) - set(sheet.cells.unread))
    confusion, unknown = shown_confusion(reader.ensemble)
    (count,) = count_slides(table, {slide or ALL: fields}, confusion)
    notes = notes_of([count], confusion, unknown, reader.threshold)
    return {**count_answer(count, notes), "confirmed": count.confirmed}
