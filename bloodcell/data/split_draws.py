"""Drawing a part of the training rows: at random, or with no source on two sides."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bloodcell.runtime.errors import BloodcellError


def draw(table: pd.DataFrame, split: str, fraction: float, method: str, seed: int) -> None:
    """Move about a fraction of the training rows to a split.

    Args:
        table: The samples of one set; changed in place.
        split: The split.
        fraction: Of each class, 0 to 1.
        method: random or grouped.
        seed: Of the drawing.

    Raises:
        BloodcellError: There are too few sources.
    """
    train = table.index[table["split"] == "train"]
    if train.empty:
        return
    if method == "grouped":
        rows = table.loc[train]
        most = min(rows["source"].nunique(), rows["label"].value_counts().max())
        folds = _grouped_folds(rows, max(2, min(round(1 / fraction), most)), seed)
        # a class with few sources may lie in some folds only: take the first with each class on both sides, if there is
        # one, and leave each class something to train on before that
        labels = rows["label"].to_numpy()
        chosen = max(folds, key=lambda fold: (len(set(np.delete(labels, fold))), len(set(labels[fold]))))
    else:
        chosen = _stratified(table.loc[train, "label"].to_numpy(), fraction, seed)
    table.loc[train[chosen], "split"] = split


def _stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the positions of a fraction of each class; a class of two or more has one on each side at least."""
    generator = np.random.default_rng(seed)
    chosen = []
    for name in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == name))
        count = int(np.clip(round(fraction * len(members)), min(1, len(members) - 1), max(len(members) - 1, 0)))
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))


def draw_fold(table: pd.DataFrame, folds: int, fold: int, method: str, seed: int) -> None:
    """Make one of `folds` equal parts of the training rows the validation part; see `draw`."""
    train = table.index[table["split"] == "train"]
    if train.empty:
        return
    if method == "grouped":
        chosen = _grouped_folds(table.loc[train], folds, seed)[fold]
    else:
        labels = table.loc[train, "label"].to_numpy()
        generator = np.random.default_rng(seed)
        number = np.empty(len(labels), dtype=int)
        start = 0  # classes go on counting where the last one stopped, so that small ones do not all land in fold 0
        for name in np.unique(labels):
            members = generator.permutation(np.flatnonzero(labels == name))
            number[members] = (start + np.arange(len(members))) % folds
            start += len(members)
        chosen = np.flatnonzero(number == fold)
    table.loc[train[chosen], "split"] = "val"


def _grouped_folds(rows: pd.DataFrame, folds: int, seed: int) -> list[np.ndarray]:
    """Return the positions of each fold, stratified by class, no source in two folds."""
    import warnings

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
        warnings.simplefilter("ignore", UserWarning)  # a class with few sources: `require_classes` has the last word
        return [val for _, val in splitter.split(rows["path"], rows["label"], rows["source"])]
