"""What a reader of a differential count has to know: what its correction rests on, and if it may not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from bloodcell.data.confirmed_cells import DISAGREEMENT, is_class
from bloodcell.data.corrections import Corrections
from bloodcell.data.image_pages import pages_note
from bloodcell.evaluation.differentials.slide_counts import SlideCount, decisions_on, reasons_of
from bloodcell.evaluation.differentials.slide_names import Slides
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.models.ood import FLAGGED, PROVISIONAL
from bloodcell.runtime.console import counted, named

#: Share of the pictures of a slide without a cell from which a reader should look at them.
MANY_EMPTY = 0.5


def notes_of(slides: Sequence[SlideCount], confusion: Confusion | None, unknown: str, threshold: float) -> list[str]:
    """Return sentences; `unknown` says why there is no confusion, and `threshold` is that of abstention, 0: none."""
    found = [] if confusion is None else _of_confusion(confusion, threshold)
    if confusion is None and not all(one.result and one.result.corrected for one in slides):
        found.append(
            f"the confusions of the classifier are unknown ({unknown}): shares are as predicted, and the intervals are "
            "those of counting alone, as if it never erred"
        )
    strange = [one for one in slides if one.unlike > FLAGGED]
    if strange:
        shares = named(f"{one.name} ({100 * one.unlike:.0f} %)" for one in strange)
        held = "the correction may not hold" if confusion else "the classifier may err more than in training"
        found.append(f"many cells are unlike the training data, so {held}: {shares}")
    if empty := [one for one in slides if one.empty > one.fields * MANY_EMPTY]:
        pictures = named(f"{one.name} ({one.empty:,} of {one.fields:,})" for one in empty)
        found.append(
            f"many pictures have no cell that was found; if they show some, the shares may be wrong: {pictures}"
        )
    if none := [one.name for one in slides if one.result is None]:
        found.append(f"no white cell counts, so there are no shares: {named(none)}")
    return found


def _of_confusion(confusion: Confusion, threshold: float) -> list[str]:
    found = []
    if confusion.provisional:
        found.append(f"the confusions are {PROVISIONAL}: the intervals may be too short")
    if unseen := [name for name, sources in zip(confusion.classes, confusion.sources, strict=True) if not sources]:
        found.append(f"no source was held out of {named(unseen)}: next to nothing is known of their confusions")
    if threshold:
        found.append(
            "cells left to a human are the unsure ones; the others are confused less often than those held out, so the "
            "correction may be too strong"
        )
    return found


def picture_notes(slides: Slides, fields: Mapping[str, int]) -> list[str]:
    """Return sentences on pictures whose cells are not counted, are counted twice, or may be of another slide.

    `fields` has the number of pictures of each slide that could be read.
    """
    every, found = Counter(slides.of_path.values()), []
    if unread := {name: every[name] - number for name, number in fields.items() if number < every[name]}:
        of = named(f"{name} ({number:,} of {every[name]:,})" for name, number in unread.items())
        found.append(f"pictures that cannot be read are not counted, see cells.bad.csv: {of}")
    if copies := slides.copies():
        found.append(
            "cells count twice, as pictures are byte by byte the same as others of their slide; take these away, and "
            f"count again: {named(copies)}"
        )
    if deep := slides.of_several_folders():
        found.append(
            "pictures in several folders count as one slide; if each folder is a slide, give slide_regex='(.*)/': "
            f"{named(deep)}"
        )
    pages = pages_note(slides.root / path for path in slides.of_path if path not in slides.whole)
    return found + ([pages] if pages else [])


def other_notes(cells: pd.DataFrame) -> list[str]:
    """Return a sentence on the cells of a table of `predict` of classes that are left out; '' if there are none."""
    others = Counter(cells["other"][cells["other"] != ""]) if "other" in cells else Counter[str]()
    if not others:
        return []
    listed = ", ".join(f"{count:,} {name}" for name, count in others.most_common())
    return [f"cells that are of a class left out by classes=..., as the classifier is sure, count as unlike: {listed}"]


def decision_notes(
    cells: pd.DataFrame,
    corrections: Corrections,
    unmatched: Mapping[str, int],
    pictures: Collection[str],
    confusion: Confusion | None,
) -> list[str]:
    """Return sentences on what humans have decided.

    Args:
        cells: Those of all slides, with the column confirmed.
        corrections: The decisions.
        unmatched: By path, the number of decisions that match no cell.
        pictures: The paths of all pictures of the slides.
        confusion: Of the classifier; None: unknown.
    """
    said, found = decisions_on(cells), []
    if number := int((said == DISAGREEMENT).sum()):
        where = named(cells.loc[said == DISAGREEMENT, "path"].unique())
        found.append(f"{counted(number, 'cell')} left to a human, as readers disagree: {where}")
    if unmatched:
        others = {path: count for path, count in unmatched.items() if path not in pictures}
        parts = [
            (others, "on pictures that are not here"),
            (dict(unmatched.items() - others.items()), "where no cell is found"),
        ]
        texts = [f"{sum(of.values()):,} {words}, e.g. {next(iter(of))}" for of, words in parts if of]
        total = counted(sum(unmatched.values()), "decision")
        found.append(f"{total} of {corrections.file} not used, as no cell matches: {'; '.join(texts)}")
    if confusion is not None and _partly_confirmed(cells):
        found.append(
            "of a predicted class some cells are confirmed and others are not: if they are the unsure ones and no "
            "random sample, the correction is too strong; confirm all cells that are predicted as that class"
        )
    return found


def _partly_confirmed(cells: pd.DataFrame) -> bool:
    """Return whether some cells of a slide's predicted class that count are confirmed, and others are not."""
    counts = cells[reasons_of(cells) == ""]
    known = decisions_on(counts).map(is_class).astype(bool).groupby([counts["slide"], counts["prediction"]])
    return bool((known.any() & ~known.all()).any())
