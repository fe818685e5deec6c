"""Drawing a validation or test part from the training rows: at random, or with no source in two parts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bloodcell.runtime.errors import BloodcellError

Positions = NDArray[np.int64]


def draw(table: pd.DataFrame, split: str, fraction: float, method: str, seed: int) -> None:
    """Move a fraction, 0 to 1, of each class of the training rows of one data set to another split, in place.

    The method is random, or grouped, which raises a BloodcellError if there are too few sources.
    """
    rows = table[table["split"] == "train"]
    if rows.empty:
        return
    labels = rows["label"].to_numpy()
    if method == "grouped":
        most = min(rows["source"].nunique(), rows["label"].value_counts().max())
        folds = _grouped_folds(rows, max(2, min(round(1 / fraction), most)), seed)
        # a class with few sources may be in some folds only: choose the first fold that leaves most classes to train
        # on and, among those, has most classes itself
        chosen = max(folds, key=lambda fold: (len(set(np.delete(labels, fold))), len(set(labels[fold]))))
    else:
        chosen = _stratified(labels, fraction, seed)
    table.loc[rows.index[chosen], "split"] = split


def draw_fold(table: pd.DataFrame, folds: int, fold: int, method: str, seed: int) -> None:
    """Make one of `folds` equal parts of the training rows the validation part; the arguments are those of `draw`."""
    rows = table[table["split"] == "train"]
    if rows.empty:
        return
    if method == "grouped":
        chosen = _grouped_folds(rows, folds, seed)[fold]
    else:
        members = np.concatenate(_shuffled_classes(rows["label"].to_numpy(), seed))
        # numbering goes on from class to class, so that small classes are not all in fold 0
        chosen = np.sort(members[fold::folds])
    table.loc[rows.index[chosen], "split"] = "val"


def _stratified(labels: NDArray[Any], fraction: float, seed: int) -> Positions:
    """Return the positions of a fraction of each class; a class of two or more images is in both parts."""
    chosen = []
    for members in _shuffled_classes(labels, seed):
        count = int(np.clip(round(fraction * len(members)), min(1, len(members) - 1), max(len(members) - 1, 0)))
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))


def _shuffled_classes(labels: NDArray[Any], seed: int) -> list[Positions]:
    """Return the shuffled positions of each class."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(np.flatnonzero(labels == name)) for name in np.unique(labels)]


def _grouped_folds(rows: pd.DataFrame, folds: int, seed: int) -> list[Positions]:
    """Return the positions of each fold, stratified by class, with no source in two folds."""
    from sklearn.model_selection import StratifiedGroupKFold

    sources = rows["source"].nunique()
    if sources < folds:
        raise BloodcellError(f"a grouped split into {folds} parts needs as many sources; there are {sources}")
    if folds > (most := rows["label"].value_counts().max()):
        raise BloodcellError(
            f"a grouped split into {folds} parts needs as many images of some class; the most is {most}"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about classes with few sources: `require_classes` checks them
        return [val for _, val in splitter.split(rows["path"], rows["label"], rows["source"])]
