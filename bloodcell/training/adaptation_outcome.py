"""What `adapt` leaves: how far it is, which reader it keeps and why, and the files of the run's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_of
from bloodcell.metrics.intervals import Estimate, mean_estimate
from bloodcell.metrics.parts import parts_of
from bloodcell.runtime.console import counted
from bloodcell.runtime.io import write_json


class Steps:
    """How far a long command is, in a file that other programs read; it is replaced whole.

    Args:
        file: The file; its keys are done and of, numbers of steps, and what, the step that goes on.
        of: The number of steps.
    """

    def __init__(self, file: Path, of: int) -> None:
        self.file, self.of, self.done = file, of, 0

    def begin(self, what: str) -> None:
        """Say which step begins."""
        write_json({"done": self.done, "of": self.of, "what": what}, self.file)
        self.done += 1

    def end(self) -> None:
        """Say that all steps are done."""
        write_json({"done": self.of, "of": self.of, "what": "done"}, self.file)


def balanced_accuracy(rows: pd.DataFrame) -> Estimate:
    """Return the mean over the labels of the share of their images that are right, with a 95 % interval.

    The rows are those of a predictions table. Images of one source count as alike; an image of unknown source is its
    own source.
    """
    parts = parts_of(rows.assign(source=sources_of(rows)))
    return mean_estimate(parts, parts.images, np.ones(len(parts.classes)))


@dataclass(frozen=True)
class Outcome:
    """Whether the adapted reader is kept; both figures are of the same cells."""

    before: Estimate  # balanced accuracy of the reader
    after: Estimate  # of the adapted reader, by cross-validation
    folds: int
    over: str  # what the folds keep apart: sources or images
    tested: int  # number of cells that both figures are of
    counts: dict[str, int]  # class -> number of labelled cells

    @property
    def adapted(self) -> bool:
        """Whether the adapted reader is better."""
        return self.after.value > self.before.value

    @property
    def why(self) -> str:
        """One sentence on what is kept, and why."""
        how = f"in {self.folds} folds over {self.over}, its balanced accuracy on {counted(self.tested, 'cell')}"
        now, then = words_of(self.after), words_of(self.before)
        if self.adapted:
            return f"The adapted reader is kept: {how} is {now}; that of the reader is {then}."
        return f"The reader is kept as it was: {how} is {then}, and adaptation does not better it: {now}."

    def as_dict(self) -> dict[str, Any]:
        """Return the content of adaptation.json."""
        values = {name: asdict(getattr(self, name)) for name in ("before", "after")}
        figures = {name: {key: one[key] for key in ("value", "low", "high")} for name, one in values.items()}
        kept, cells = "adapted" if self.adapted else "reader", sum(self.counts.values())
        return {"kept": kept, "cells": cells, "classes": self.counts, **figures, "why": self.why}


def words_of(estimate: Estimate) -> str:
    """Return a share with its interval in percent."""
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
