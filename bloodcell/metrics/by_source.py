"""Sources of the rows of a predictions table, and the parts that are evaluated."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bloodcell.metrics.parts import Floats
from bloodcell.metrics.predictions import splits_of


def sources_known(rows: pd.DataFrame) -> bool:
    """Return whether every row of a predictions table has a source."""
    return not (rows["source"].fillna("") == "").any()


def sources_of(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the source of each row; an image of unknown source is its own source, named by its path or row."""
    source, path = (rows[name].fillna("").astype(str) for name in ("source", "path"))
    row = "row " + rows.index.astype(str).to_series(index=rows.index)
    return source.where(source != "", path.where(path != "", row))


def source_weights(rows: pd.DataFrame) -> Floats:
    """Return the weight of each row, (N,), with sum 1: sources weigh the same, and so do the images of a source."""
    sources = sources_of(rows)
    return np.asarray(1 / sources.map(sources.value_counts()) / sources.nunique(), float)


def rows_by_part(predictions: pd.DataFrame, trained_on: frozenset[str] = frozenset()) -> dict[str, pd.DataFrame]:
    """Return the rows of each part that is evaluated: of each split, see `splits_of`, and of unseen sources.

    `SPLIT_disjoint` has the rows of a test split that share no source with training, whose sources are `trained_on`.
    It exists if the sources are known and some of them, but not all, were in training.
    """
    parts: dict[str, pd.DataFrame] = {}
    for split, rows in splits_of(predictions).items():
        parts[split] = rows
        unseen = rows[~rows["source"].isin(trained_on)]
        if split.startswith("test") and sources_known(rows) and 0 < len(unseen) < len(rows):
            parts[f"{split}_disjoint"] = unseen
    return parts
