"""The errors of a classifier, by image and by source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_of
from bloodcell.metrics.predictions import probability_of

COLUMNS = ["split", "source", "label", "images", "right", "mistaken_for", "confidence", "p_label", "path"]


def errors_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are wrong, by falling confidence in the wrong class, then by rising p of the true class."""
    wrong = predictions[predictions["label"] != predictions["prediction"]]
    return wrong.iloc[np.lexsort((probability_of(wrong, "label"), -probability_of(wrong, "prediction")))]


def worst_errors(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return up to `count` rows of the most confident errors, the worst first, one for each source."""
    errors = errors_of(predictions)
    return errors[~sources_of(errors).duplicated()].head(count)


def typical(predictions: pd.DataFrame, classes: list[str], count: int) -> pd.DataFrame:
    """Return right rows of each class, of the confidence nearest its median; one or two, `count` in all at most.

    They are of different sources.
    """
    right = predictions[predictions["label"] == predictions["prediction"]]
    right = right.assign(confidence=probability_of(right, "prediction"), of=sources_of(right)).drop_duplicates("of")
    off = (right["confidence"] - right.groupby("label")["confidence"].transform("median")).abs()
    by_class = right.loc[off.sort_values(kind="stable").index].groupby("label", sort=False)
    chosen = by_class.head(2 if 2 * len(classes) <= count else 1)
    chosen = chosen[chosen["label"].isin(classes)].sort_values("label", kind="stable")
    return predictions.loc[chosen.index[:count]]


def failures_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each source, under each of its labels, that has a wrong image; the worst first in each split.

    An image of unknown source is its own source.

    Returns:
        Columns split, source, label, images, right (share of them), mistaken_for (the most frequent wrong class),
        confidence (of the worst image), p_label (mean probability of the true class), path (of the worst image).
    """
    table = predictions[["split", "label", "prediction", "path"]].assign(  # a class may be called label: no p_CLASS
        source=sources_of(predictions),
        right=predictions["label"] == predictions["prediction"],
        confidence=probability_of(predictions, "prediction"),
        p_label=probability_of(predictions, "label"),
    )
    key = ["split", "source", "label"]
    found = table.groupby(key).agg(images=("path", "size"), right=("right", "mean"), p_label=("p_label", "mean"))
    errors = table[~table["right"]].sort_values(["confidence", "p_label"], ascending=[False, True], kind="stable")
    named = errors.groupby(key, sort=False).agg(
        mistaken_for=("prediction", lambda names: names.mode()[0]),
        confidence=("confidence", "first"),
        path=("path", "first"),
    )
    return named.join(found).reset_index().sort_values("split", kind="stable")[COLUMNS]
