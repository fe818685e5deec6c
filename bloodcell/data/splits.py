"""Splits: which images train, validate and test, in each of the data sets that there are."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.data.split_draws import draw, draw_fold
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.runtime.schema.data import DataConfig


def split_arguments(data: DataConfig) -> dict[str, Any]:
    """Return the arguments of `assign_splits` that the `data` group gives."""
    names = ("split", "val_fraction", "test_fraction", "seed", "train_only", "leave_out")
    folds = {} if data.fold is None else {"folds": data.folds, "fold": data.fold}
    return {name: getattr(data, name) for name in names} | folds


def assign_splits(
    samples: Samples,
    split: str = "auto",
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
    train_only: list[str] | tuple[str, ...] = (),
    leave_out: str | None = None,
) -> Samples:
    """Give every image a split, keeping those that the folders or the table gave.

    A test part or a validation part that is lacking is drawn from the training part. With `folds`, the validation
    part is one of so many equal parts of training and validation together. In a joint table each set is split as it
    would be alone; all of them together must have what training needs.

    Args:
        samples: The samples; an empty split means: not given.
        split: `random`: stratified by class. `grouped`: also no source on two sides. `auto`: grouped where every
            image of the set has a known source.
        val_fraction: Of the training part, 0 to 1.
        test_fraction: Of the training part, 0 to 1.
        folds: Number of folds, at least 2; None: no cross-validation.
        fold: Which of them validates, from 0.
        seed: Of the drawing.
        train_only: Sets of a joint table whose every image trains.
        leave_out: The set of a joint table whose every image is a test image; the test parts of the others leave the
            table. None: no such set.

    Returns:
        The samples, every split filled in.

    Raises:
        BloodcellError: The values make no sense, or a grouped split is asked for where sources are unknown.
    """
    train_only = [str(name) for name in (train_only if isinstance(train_only, list | tuple) else [train_only])]
    leave_out = None if leave_out is None else str(leave_out)  # a number names a set as well
    if samples.sets() or train_only or leave_out is not None:
        _check_sets(samples, train_only, leave_out)
    table = _begun(samples.table, folds is not None, train_only, leave_out)
    require_classes(table)
    fractions = (val_fraction, 0.0 if leave_out is not None else test_fraction)
    parts = []
    for name, rows in table.groupby("set", sort=False):
        part = Samples(rows.reset_index(drop=True), samples.root)
        if name not in (*train_only, leave_out):
            part = _split_set(part, split, *fractions, folds, fold, seed)
        parts.append(part.table)
    table = pd.concat(parts, ignore_index=True)
    require_classes(table)
    return Samples(table, samples.root)


def _begun(table: pd.DataFrame, in_folds: bool, train_only: list[str], leave_out: str | None) -> pd.DataFrame:
    """Return the table before anything is drawn: what has no split trains, and sets that are set aside are whole."""
    table = table.copy()
    trains = (table["split"] == "") | table["set"].isin(train_only) | (in_folds & (table["split"] == "val"))
    table.loc[trains, "split"] = "train"
    if leave_out is None:
        return table
    left_out = table["set"] == leave_out
    table.loc[left_out, "split"] = "test"
    return table[left_out | ~table["split"].str.startswith("test")]


def _split_set(
    samples: Samples,
    split: str,
    val_fraction: float,
    test_fraction: float,
    folds: int | None,
    fold: int,
    seed: int,
) -> Samples:
    """Draw the parts that one set lacks; see `assign_splits`."""
    table, given = samples.table, set(samples.table["split"])
    try:
        method = _method(samples, split)
        if "test" not in given and test_fraction > 0:
            draw(table, "test", test_fraction, method, seed)
        if folds is not None:
            draw_fold(table, folds, fold, method, seed)
        elif "val" not in given and val_fraction > 0:
            # 70/15/15: the fraction is of the whole, and the test part has just been taken from it
            drawn = 0.0 if "test" in given else test_fraction
            draw(table, "val", val_fraction / (1 - drawn), method, seed)
    except BloodcellError as error:
        where = "".join(f"data set {name}: " for name in samples.sets())
        raise BloodcellError(f"{where}{error}") from error
    if method == "grouped":
        _assert_disjoint(table, given)
    return samples


def _method(samples: Samples, split: str) -> str:
    if split == "auto":
        return "grouped" if samples.sources_known() else "random"
    if split == "grouped" and not samples.sources_known():
        unknown = int((samples.table["source"] == "").sum())
        raise BloodcellError(
            f"data.split=grouped needs the source of every image; {unknown} of {len(samples.table)} are unknown\n"
            "give data.group_regex or a group column, or use data.split=random"
        )
    return split


def _check_sets(samples: Samples, train_only: list[str], leave_out: str | None) -> None:
    """Check that the sets which are named are there, that some other trains and validates, and that classes are shared.

    Raises:
        BloodcellError: One of these does not hold.
    """
    names, set_aside = samples.sets(), [*train_only, *([] if leave_out is None else [leave_out])]
    if unknown := [name for name in set_aside if name not in names]:
        key = "data.leave_out" if unknown == [leave_out] else "data.train_only"
        raise BloodcellError(f"{key}: no data set '{unknown[0]}'; {nearest(str(unknown[0]), names)}")
    if leave_out in train_only:
        raise BloodcellError(f"data.leave_out={leave_out} is in data.train_only as well; a set cannot train and test")
    if set(names) <= set(set_aside):
        raise BloodcellError("data.train_only and data.leave_out name every set; one at least must be left to validate")
    classes = {name: set(samples.of_set(name).table["label"]) for name in names}
    for name in names:
        others = set().union(*(classes[other] for other in names if other != name))
        if not classes[name] & others:
            raise BloodcellError(
                f"data set {name} ({', '.join(sorted(classes[name]))}) has no class in common with the others "
                f"({', '.join(sorted(others))}); rename classes with data.class_map"
            )


def require_classes(table: pd.DataFrame) -> None:
    """Check that there is something to train on, and no class that training never sees."""
    train = set(table.loc[table["split"] == "train", "label"])
    if len(train) < 2:
        names = ", ".join(sorted(train)) or "none"
        raise BloodcellError(f"training needs images of two classes at least; it has {names}")
    for split in sorted(set(table["split"]) - {"train"}):
        if unseen := sorted(set(table.loc[table["split"] == split, "label"]) - train):
            raise BloodcellError(
                f"class {', '.join(unseen)} is in the {split} part but not in training; "
                f"add images of it, or leave it out with 'data.class_map={{{unseen[0]}: null}}'"
            )


def _assert_disjoint(table: pd.DataFrame, given: set[str]) -> None:
    """Assert that no source lies on two of the sides that were drawn; given sides are the audit's matter."""
    drawn = table[~table["split"].isin(given - {"", "train", "val"})]
    sides = drawn.groupby("source")["split"].nunique()
    if (sides > 1).any() and "val" not in given:
        raise AssertionError(f"source {sides.idxmax()} lies on two sides of a grouped split")
