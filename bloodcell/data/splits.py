"""Splits: which images are for training, validation and test, in each data set."""

from __future__ import annotations

import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.data.split_draws import draw, draw_fold
from bloodcell.runtime.config import listed
from bloodcell.runtime.console import counted, named, say
from bloodcell.runtime.errors import BloodcellError, nearest, written
from bloodcell.runtime.schema.data import DataConfig


def assign_splits(samples: Samples, data: DataConfig) -> Samples:
    """Assign a split to every image; splits given by the folders or the table stay.

    A missing test or validation part is drawn from the training part. In a cross-validation, training and validation
    together are divided into equal parts and one of them validates. Each data set of a joint table is split as it would
    be alone.

    With `data.split=random` the parts are stratified by class. With `grouped` they also have no source in common; the
    source is the physical cell, photograph, slide or patient that an image comes from. `auto` is grouped if every image
    of the data set has a known source.

    Args:
        samples: The samples; an empty split means that it is not given.
        data: The `data` group; conf/data/base.yaml and conf/data/joint.yaml describe its values.

    Returns:
        The samples with every split filled in; without the test images of other sets if there is a `data.leave_out`,
        and without its images of classes that no other set has; and without those that are given as test with
        `data.drop_test`.

    Raises:
        BloodcellError: Sources for a grouped split are unknown, a class is never trained on, or a data set is missing.
    """
    train_only = [str(name) for name in listed(data.train_only)]
    leave_out = None if data.leave_out is None else str(data.leave_out)  # the name may be a number
    if samples.sets() or train_only or leave_out is not None:
        _check_sets(samples, train_only, leave_out)
    given = samples.table
    if data.drop_test:
        given = given[~given["split"].str.startswith("test")]
    table = _with_fixed_splits(given, data.fold is not None, train_only, leave_out)
    if leave_out is not None:
        table = _of_classes_elsewhere(table, leave_out)
    require_classes(table)
    parts = []
    for name, rows in table.groupby("set", sort=False):
        part = Samples(rows.reset_index(drop=True), samples.root)
        if name not in (*train_only, leave_out):
            _draw_parts(part, data, 0.0 if leave_out is not None else data.test_fraction)
        parts.append(part.table)
    table = pd.concat(parts, ignore_index=True)
    require_classes(table)
    return Samples(table, samples.root)


def _with_fixed_splits(
    table: pd.DataFrame, in_folds: bool, train_only: list[str], leave_out: str | None
) -> pd.DataFrame:
    """Return the table before drawing: rows without a split train, and `train_only` and `leave_out` are applied."""
    table = table.copy()
    trains = (table["split"] == "") | table["set"].isin(train_only) | (in_folds & (table["split"] == "val"))
    table.loc[trains, "split"] = "train"
    if leave_out is None:
        return table
    left_out = table["set"] == leave_out
    table.loc[left_out, "split"] = "test"
    return table[left_out | ~table["split"].str.startswith("test")]


def _of_classes_elsewhere(table: pd.DataFrame, leave_out: str) -> pd.DataFrame:
    """Return the table without the classes that only the set that is left out has; a line names them."""
    tested = table["set"] == leave_out
    unseen = tested & ~table["label"].isin(table.loc[~tested, "label"])
    if unseen.any():
        names = named(sorted(table.loc[unseen, "label"].unique()))
        say(f"note: {leave_out}: {counted(int(unseen.sum()), 'image')} of {names} not tested: no other set has them")
    return table[~unseen]


def _draw_parts(samples: Samples, data: DataConfig, test_fraction: float) -> None:
    """Draw the missing parts of one data set in place."""
    table, given = samples.table, set(samples.table["split"])
    try:
        method = _method(samples, data.split)
        if "test" not in given and test_fraction > 0:
            draw(table, "test", test_fraction, method, data.seed)
        if data.fold is not None:
            draw_fold(table, data.folds, data.fold, method, data.seed)
        elif "val" not in given and data.val_fraction > 0:
            # 70/15/15: the fraction is of the whole, and the test part may already have been taken from it
            drawn = 0.0 if "test" in given else test_fraction
            draw(table, "val", data.val_fraction / (1 - drawn), method, data.seed)
    except BloodcellError as error:
        where = "".join(f"data set {name}: " for name in samples.sets())
        raise BloodcellError(f"{where}{error}") from error


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
    """Check that the named data sets exist, that another set trains and validates, and that sets share classes."""
    names, set_aside = samples.sets(), [*train_only, *([] if leave_out is None else [leave_out])]
    if unknown := [name for name in set_aside if name not in names]:
        key = "data.leave_out" if unknown == [leave_out] else "data.train_only"
        raise BloodcellError(f"{key}: no data set '{unknown[0]}'; {nearest(unknown[0], names)}")
    if leave_out in train_only:
        raise BloodcellError(f"data.leave_out={leave_out} is in data.train_only as well; a set cannot train and test")
    if set(names) <= set(set_aside):
        raise BloodcellError("data.train_only and data.leave_out name every set; at least one must be left to validate")
    classes = {name: set(samples.of_set(name).table["label"]) for name in names}
    for name in names:
        others = set().union(*(classes[other] for other in names if other != name))
        if not classes[name] & others:
            raise BloodcellError(
                f"data set {name} ({named(sorted(classes[name]))}) has no class in common with the others "
                f"({named(sorted(others))}); rename classes with data.class_map"
            )


def require_classes(table: pd.DataFrame) -> None:
    """Check that at least two classes are trained on and that no other part has further classes.

    Raises:
        BloodcellError: One of these is not true.
    """
    train = set(table.loc[table["split"] == "train", "label"])
    if len(train) < 2:
        names = ", ".join(sorted(train)) or "none"
        raise BloodcellError(f"training needs images of at least two classes; it has {names}")
    for split in sorted(set(table["split"]) - {"train"}):
        if unseen := sorted(set(table.loc[table["split"] == split, "label"]) - train):
            raise BloodcellError(
                f"class {named(unseen)} is in the {split} part but not in training; "
                f"add images of it, or leave it out with 'data.class_map={{{written(unseen[0])}: null}}'"
            )
