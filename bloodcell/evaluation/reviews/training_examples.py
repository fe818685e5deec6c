"""Training cells beside those of a review: the nearest of a class shows what the reader takes it for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from bloodcell.audits.overlap import training_samples
from bloodcell.evaluation.reviews.cell_store import CellStore, JudgedCell
from bloodcell.evaluation.reviews.folder_cells import judged_cells
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.predict import grouped

Array = np.ndarray[Any, np.dtype[Any]]
#: Training cells of a class among which the nearest are looked for, and how many are shown.
OF_CLASS, SHOWN = 150, 4


@dataclass(frozen=True)
class Example:
    """A training cell that is near a cell of the review."""

    number: int  # in the store
    path: str
    likeness: float  # cosine of the two cells' features


class TrainingExamples:
    """Some training cells of each class, as the reader sees them.

    Args:
        engine: The reader.
        store: Keeps them.

    Attributes:
        missing: Why there is none; '' if they are known.
    """

    def __init__(self, engine: Engine, store: CellStore) -> None:
        self.engine, self.store, self.missing = engine, store, ""
        self._ids, self._labels, self._paths, self._features = store.examples()

    def judge(self, tta: str | None, threads: int | None = None, stop: Event | None = None) -> None:
        """Judge them, unless they are kept already; as `stop` is set, none are kept."""
        if self._ids:
            return
        chosen = self._chosen()
        if not chosen:
            self.missing = "the reader's training images are not on this machine"
            return
        ensemble = Ensemble([self.engine], tta, "one", keeps_views=True)
        names = [file for file, _ in chosen]
        labels, found = dict(chosen), list[tuple[str, JudgedCell]]()
        for group in ensemble.predict(grouped(iter(names), len(names)), len(names), threads):
            found += [(labels[one.path], one) for one in judged_cells(group, ensemble.classes, 0)]
            if stop and stop.is_set():
                return
        self.store.add_examples(found)
        self._ids, self._labels, self._paths, self._features = self.store.examples()

    def _chosen(self) -> list[tuple[str, str]]:
        """Return file and label of at most `OF_CLASS` images of each class, of as many sources as there are."""
        samples = training_samples(self.engine.file) if self.engine.file else None
        if samples is None:
            return []
        table = samples.table.assign(file=samples.paths()).sample(frac=1, random_state=0)
        order = table.groupby(["label", "source"], sort=False).cumcount() if samples.sources_known() else 0
        table = table.assign(order=order).sort_values("order", kind="stable").groupby("label").head(OF_CLASS)
        there = [Path(file).is_file() for file in table["file"]]
        return list(table.loc[there, ["file", "label"]].itertuples(index=False, name=None))

    def nearest(self, features: Array, label: str) -> list[Example]:
        """Return the training cells of a class that are nearest to a cell with these features, (F,), nearest first."""
        rows = [row for row, name in enumerate(self._labels) if name == label]
        if not rows or self._features.shape[1:] != features.shape:
            return []
        alike = self._features[rows].astype(np.float32) @ features.astype(np.float32)
        best = np.argsort(-alike, kind="stable")[:SHOWN]
        return [Example(self._ids[rows[one]], self._paths[rows[one]], float(alike[one])) for one in best]
