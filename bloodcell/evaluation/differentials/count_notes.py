"""What a reader of a differential count has to know: what its correction rests on, and if it may not hold."""

from __future__ import annotations

from collections.abc import Sequence

from bloodcell.evaluation.differentials.slide_counts import SlideCount
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.models.ood import FLAGGED, PROVISIONAL
from bloodcell.runtime.console import named

#: Share of the pictures of a slide without a cell from which a reader should look at them.
MANY_EMPTY = 0.5


def notes_of(slides: Sequence[SlideCount], confusion: Confusion | None, unknown: str, threshold: float) -> list[str]:
    """Return sentences; `unknown` says why there is no confusion, and `threshold` is that of abstention, 0: none."""
    if confusion is None:
        found = [
            f"the confusions of the classifier are unknown ({unknown}): shares are as predicted, and the intervals are "
            "those of counting alone, as if it never erred"
        ]
    else:
        found = _of_confusion(confusion, threshold)
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
        found.append(f"no cell counts, so there are no shares: {named(none)}")
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
