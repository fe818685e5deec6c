"""The labelled cells that a reader is adapted by, and the folds in which they test it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.data.classes import with_spelling_of
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.readers import load_samples
from bloodcell.data.samples import Samples
from bloodcell.data.split_draws import draw_fold
from bloodcell.runtime.console import counted, named, say
from bloodcell.runtime.errors import BloodcellError, folded, written
from bloodcell.runtime.schema.data import DataConfig


def read_labelled(data: DataConfig, cache: Path) -> Samples:
    """Return the pictures of one cell each that the `data` group describes, all of the part train.

    Those without a label and those that are given as test are left out, and a line counts them.
    """
    if data.kind == "table":
        data = replace(data, reader={**data.reader, "unlabelled": True})
    samples = with_saved_sources(load_samples(data), cache)
    tests = samples.table["split"].str.startswith("test")
    if tests.any():
        say(f"note: {counted(int(tests.sum()), 'image')} of the test part left out: the reader is not adapted by them")
    return replace(samples, table=samples.table[~tests].assign(split="train").reset_index(drop=True))


def with_known_classes(samples: Samples, classes: Sequence[str], new: Sequence[str]) -> Samples:
    """Return the samples with their labels spelled as a reader's classes, or as those that it is to learn.

    Raises:
        BloodcellError: A label is neither, a new class has no cell, or there are fewer than two classes.
    """
    known = {folded(name) for name in [*classes, *new]}
    labels = sorted(set(samples.table["label"]))
    if unseen := [name for name in labels if folded(name) not in known]:
        raise BloodcellError(
            f"the reader knows no class {named(unseen)}, but {named(classes)}; rename it with data.class_map, or let "
            f"the reader learn it: new_classes=[{','.join(map(written, unseen))}]"
        )
    if missing := [name for name in new if folded(name) not in set(map(folded, labels))]:
        raise BloodcellError(f"new_classes={named(missing)}: there is no labelled cell of it; leave it out")
    if len(set(map(folded, labels))) < 2:
        raise BloodcellError(f"all cells are labelled {named(labels)}; a reader is adapted by two classes or more")
    return with_spelling_of(samples, [*classes, *new])


def folds_of(samples: Samples, folds: int, seed: int, learnt: Any = False) -> list[Samples]:
    """Return the cells once for each fold, with the parts train and val; each cell is in one val part.

    No source is in two folds; a cell of unknown source is its own source. There are fewer folds if there are fewer
    sources. Cells that the reader has `learnt`, bool (N,), are in no val part: they cannot test it.

    Raises:
        BloodcellError: All cells that can test are of one source, or there is none.
    """
    table = samples.table.assign(split="train")
    fresh = table[~np.broadcast_to(learnt, len(table))]
    known = (fresh["source"] != "").any()
    units = fresh["source"].where(fresh["source"] != "", fresh["path"])
    most = min(units.nunique(), fresh["label"].value_counts().max()) if known and len(fresh) else len(fresh)
    if (count := min(folds, most)) < 2:
        if len(fresh) < len(table):
            raise BloodcellError(
                "the reader has learnt these cells before, so too few are left to test it; label further ones, or "
                "adapt the reader that it comes from (reader in its run.json)"
            )
        raise BloodcellError(
            "all labelled cells are of one source, so nothing can test the adapted reader; label cells of another one"
        )
    parts = []
    for fold in range(count):
        drawn = fresh.assign(source=units)
        draw_fold(drawn, count, fold, "grouped" if known else "random", seed)
        parts.append(
            replace(samples, table=table.assign(split=drawn["split"].reindex(table.index, fill_value="train")))
        )
    return parts
