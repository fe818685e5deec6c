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
    return np.asarray(1 / sources.map(sources.value_counts()).to_numpy(float) / sources.nunique(), float)


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


def groups_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each source, if sources are patients, slides or photographs and not single cells.

    They are if at least half of the sources with several images have several classes: a cell has one, unless a label is
    wrong. Else the table is empty, as it is if sources are unknown.

    Returns:
        Columns source, images, classes (the number of its labels), right (share of its images) and mistake (its most
        frequent error, "LABEL as PREDICTION", or ''); the sources with the least share right come first.
    """
    table = rows[["source", "label"]].assign(right=rows["label"] == rows["prediction"])
    table["mistake"] = (rows["label"] + " as " + rows["prediction"]).mask(table["right"])
    by = table.groupby("source")
    found = by.agg(images=("label", "size"), classes=("label", "nunique"), right=("right", "mean"))
    several = found["classes"][found["images"] > 1] > 1
    if not sources_known(rows) or several.empty or several.mean() < 0.5:
        return pd.DataFrame(columns=["source", *found, "mistake"])
    found["mistake"] = by["mistake"].agg(lambda errors: next(iter(errors.mode()), ""))
    return found.sort_values(["right", "images"], ascending=[True, False], kind="stable").reset_index()
