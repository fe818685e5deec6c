"""Which images train, validate and test: at random, or with no source on two sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.errors import BloodcellError


def split_arguments(data: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `assign_splits` that a `data` configuration gives; without a fold there are no folds."""
    arguments = {key: data[key] for key in ("split", "val_fraction", "test_fraction", "seed")}
    return arguments if data["fold"] is None else {**arguments, "folds": data["folds"], "fold": data["fold"]}


def assign_splits(
    samples: Samples,
    split: str = "auto",
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
) -> Samples:
    """Give every image a split, keeping those that the folders or the table gave.

    A test part or a validation part that is lacking is drawn from the training part. With `folds`, the validation
    part is one of so many equal parts of training and validation together.

    Args:
        samples: The samples; an empty split means: not given.
        split: `random`: stratified by class. `grouped`: also no source on two sides. `auto`: grouped where every
            image has a known source.
        val_fraction: Of the training part, 0 to 1.
        test_fraction: Of the training part, 0 to 1.
        folds: Number of folds, at least 2; None: no cross-validation.
        fold: Which of them validates, from 0.
        seed: Of the drawing.

    Returns:
        The samples, every split filled in.

    Raises:
        BloodcellError: The values make no sense, or a grouped split is asked for where sources are unknown.
    """
    method = _method(samples, split)
    _check(val_fraction, test_fraction, folds, fold)
    table = samples.table.copy()
    given = set(table["split"])
    table.loc[table["split"] == "", "split"] = "train"
    if folds is not None:
        table.loc[table["split"] == "val", "split"] = "train"
    require_classes(table)
    if "test" not in given and test_fraction > 0:
        _draw(table, "test", test_fraction, method, seed)
    if folds is not None:
        _draw_fold(table, folds, fold, method, seed)
    elif "val" not in given and val_fraction > 0:
        # 70/15/15: the fraction is of the whole, and the test part has just been taken from it
        drawn = 0.0 if "test" in given else test_fraction
        _draw(table, "val", val_fraction / (1 - drawn), method, seed)
    require_classes(table)
    if method == "grouped":
        _assert_disjoint(table, given)
    return replace(samples, table=table)


def _method(samples: Samples, split: str) -> str:
    if split not in ("auto", "random", "grouped"):
        raise BloodcellError(f"data.split={split}; choose random, grouped or auto")
    if split == "auto":
        return "grouped" if samples.sources_known() else "random"
    if split == "grouped" and not samples.sources_known():
        unknown = int((samples.table["source"] == "").sum())
        raise BloodcellError(
            f"data.split=grouped needs the source of every image; {unknown} of {len(samples.table)} are unknown\n"
            "give data.group_regex or a group column, or use data.split=random"
        )
    return split


def _check(val_fraction: float, test_fraction: float, folds: int | None, fold: int) -> None:
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise BloodcellError(f"data.{name}={value}; give a number from 0 to below 1")
    if val_fraction + test_fraction >= 1:
        raise BloodcellError("data.val_fraction and data.test_fraction leave nothing to train on; lower them")
    if folds is not None and (not isinstance(folds, int) or folds < 2):
        raise BloodcellError(f"data.folds={folds}; give 2 or more, or null")
    if folds is not None and (not isinstance(fold, int) or not 0 <= fold < folds):
        raise BloodcellError(f"data.fold={fold}; with data.folds={folds} choose 0 to {folds - 1}")


def _draw(table: pd.DataFrame, split: str, fraction: float, method: str, seed: int) -> None:
    """Move about a fraction of the training rows to a split."""
    train = table.index[table["split"] == "train"]
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


def _draw_fold(table: pd.DataFrame, folds: int, fold: int, method: str, seed: int) -> None:
    """Make one of `folds` equal parts of the training rows the validation part."""
    train = table.index[table["split"] == "train"]
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


def require_classes(table: pd.DataFrame) -> None:
    """Check that there is something to train on, and no class that training never sees."""
    train = set(table.loc[table["split"] == "train", "label"])
    if len(train) < 2:
        names = ", ".join(sorted(train)) or "none"
        raise BloodcellError(f"training needs images of two classes at least; it has {names}")
    for split in sorted(set(table["split"]) - {"train"}):
        if unseen := sorted(set(table.loc[table["split"] == split, "label"]) - train):
            raise BloodcellError(
                f"class {', '.join(unseen)} is in the {split} part but not in training; add images of it or remove it"
            )


def _assert_disjoint(table: pd.DataFrame, given: set[str]) -> None:
    """Assert that no source lies on two of the sides that were drawn; given sides are the audit's matter."""
    drawn = table[~table["split"].isin(given - {"", "train", "val"})]
    sides = drawn.groupby("source")["split"].nunique()
    if (sides > 1).any() and "val" not in given:
        raise AssertionError(f"source {sides.idxmax()} lies on two sides of a grouped split")
