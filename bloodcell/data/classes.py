"""Class names: renamed, selected, and matched in any letter case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError, nearest


def select_classes(samples: Samples, class_map: dict[Any, Any] | None, classes: list[Any] | None) -> Samples:
    """Return the samples with their classes renamed and unwanted classes left out.

    If names are mapped or several data sets are joined, names that differ only in letter case are one class, spelled as
    in the first row that has it.

    Args:
        samples: The samples.
        class_map: `data.class_map`: class name in the data (any letter case) -> new name; None leaves the class out.
        classes: `data.classes`: the classes to keep after the mapping, in any letter case; None keeps all.

    Raises:
        BloodcellError: An entry is not a name or matches no class, or no image is left.
    """
    table = samples.table
    if class_map:
        table = table.assign(label=table["label"].map(_new_names(class_map, list(table["label"].unique()))))
        table = table[table["label"].notna()]
    if class_map or samples.sets():
        spelling = _spelling(table["label"].unique())
        table = table.assign(label=[spelling[name.casefold()] for name in table["label"]])
    if classes is not None:
        table = table[table["label"].isin(_selected(classes, list(table["label"].unique())))]
    if table.empty:
        raise BloodcellError("data.class_map and data.classes leave no image; name the classes to keep")
    return replace(samples, table=table.reset_index(drop=True))


def _spelling(names: Iterable[str]) -> dict[str, str]:
    """Return name in lower case -> name; the first of those that differ only in letter case."""
    return {name.casefold(): name for name in reversed(list(names))}


def _new_names(class_map: dict[Any, Any], found: list[str]) -> dict[str, str | None]:
    """Return for each class in the data its new name; None leaves it out."""
    if not isinstance(class_map, dict):
        raise BloodcellError(f"data.class_map={class_map}; give {{name as found: name to use}}, or null")
    folded: dict[str, str | None] = {}
    for name, new in class_map.items():
        _require_class("data.class_map", str(name), found)
        if str(name).casefold() in folded:
            raise BloodcellError(f"data.class_map names {name} twice, in other letter case; keep one of them")
        if isinstance(new, dict | list) or new == "":
            raise BloodcellError(f"data.class_map={{{name}: {new}}}; give the name to use, or null to leave it out")
        folded[str(name).casefold()] = None if new is None else str(new)
    return {name: folded.get(name.casefold(), name) for name in found}


def _selected(classes: list[Any], found: list[str]) -> list[str]:
    """Return the names in the data of the wanted classes."""
    if not isinstance(classes, list) or not classes:
        raise BloodcellError(f"data.classes={classes}; give a list of class names, e.g. data.classes=[a,b], or null")
    for name in classes:
        _require_class("data.classes", str(name), found)
    wanted = {str(name).casefold() for name in classes}
    return [name for name in found if name.casefold() in wanted]


def _require_class(key: str, name: str, found: list[str]) -> None:
    if name.casefold() not in {other.casefold() for other in found}:
        raise BloodcellError(f"{key}: no class '{name}' in the data; {nearest(name, found)}")


def with_spelling_of(samples: Samples, classes: list[str]) -> Samples:
    """Return the samples with their labels spelled as a checkpoint's classes, matched in any letter case.

    Raises:
        BloodcellError: The checkpoint does not know a class.
    """
    spelling = _spelling(classes)
    names = {name: name if name in classes else spelling.get(name.casefold()) for name in set(samples.table["label"])}
    if unseen := sorted(name for name, known in names.items() if known is None):
        known = sorted(name for name in names if names[name] is not None)
        keep = f"keep only known classes with data.classes=[{','.join(known)}], or rename" if known else "rename them"
        raise BloodcellError(
            f"class {named(unseen)} was not in training; the checkpoint knows {named(classes)}\n"
            f"{keep} with data.class_map"
        )
    return replace(samples, table=samples.table.assign(label=samples.table["label"].map(names)))


def missing_classes(table: pd.DataFrame, classes: list[str]) -> list[str]:
    """Return a note for each split that lacks classes, given the columns split and label."""
    parts = {split: sorted(set(classes) - set(labels)) for split, labels in table.groupby("split", sort=False)["label"]}
    return [
        f"note: the {split} part has no image of {named(names)}; its macro scores are over the other classes"
        for split, names in parts.items()
        if names
    ]
