"""Class names: taken together, left out, and matched whatever their letter case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bloodcell.data.samples import Samples
from bloodcell.runtime.errors import BloodcellError, nearest


def with_classes(samples: Samples, class_map: dict[Any, Any] | None, classes: list[Any] | None) -> Samples:
    """Return the samples with their classes renamed, and those alone that are wanted.

    In a joint table, and wherever names are mapped, names that differ in letter case alone are one class, spelt as in
    the first row that has it.

    Args:
        samples: The samples.
        class_map: `data.class_map`: class name as found, in any letter case -> the name to use, or None: left out.
        classes: `data.classes`: the classes to keep, after the mapping, in any letter case; None: all.

    Raises:
        BloodcellError: An entry is no name or matches no class, or no image is left.
    """
    table = samples.table
    if class_map:
        table = table.assign(label=table["label"].map(_renamed(class_map, table["label"].unique())))
        table = table[table["label"].notna()]
    if class_map or samples.sets():
        spelling = _spelling(table["label"].unique())
        table = table.assign(label=[spelling[name.casefold()] for name in table["label"]])
    if classes is not None:
        table = table[table["label"].isin(_chosen(classes, table["label"].unique()))]
    if table.empty:
        raise BloodcellError("data.class_map and data.classes leave no image; name the classes to keep")
    return replace(samples, table=table.reset_index(drop=True))


def _spelling(names: Iterable[str]) -> dict[str, str]:
    """Return folded name -> name; of names that differ in letter case alone the first."""
    spelling: dict[str, str] = {}
    for name in names:
        spelling.setdefault(name.casefold(), name)
    return spelling


def _renamed(class_map: dict[Any, Any], found: Iterable[str]) -> dict[str, str | None]:
    """Return each class name that is found -> the name to use, None to leave it out."""
    if not isinstance(class_map, dict):
        raise BloodcellError(f"data.class_map={class_map}; give {{name as found: name to use}}, or null")
    folded: dict[str, str | None] = {}
    names = list(found)
    for name, new in class_map.items():
        _require_class("data.class_map", str(name), names)
        if str(name).casefold() in folded:
            raise BloodcellError(f"data.class_map names {name} twice, in other letter case; keep one of them")
        if isinstance(new, dict | list) or new == "":
            raise BloodcellError(f"data.class_map={{{name}: {new}}}; give the name to use, or null to leave it out")
        folded[str(name).casefold()] = None if new is None else str(new)
    return {name: folded.get(name.casefold(), name) for name in names}


def _chosen(classes: list[Any], found: Iterable[str]) -> list[str]:
    """Return the names that are found of the wanted classes."""
    if not isinstance(classes, list) or not classes:
        raise BloodcellError(f"data.classes={classes}; give a list of class names, e.g. data.classes=[a,b], or null")
    names = list(found)
    for name in classes:
        _require_class("data.classes", str(name), names)
    wanted = {str(name).casefold() for name in classes}
    return [name for name in names if name.casefold() in wanted]


def _require_class(key: str, name: str, found: list[str]) -> None:
    if name.casefold() not in {other.casefold() for other in found}:
        raise BloodcellError(f"{key}: no class '{name}' in the data; {nearest(name, found)}")


def spelt_as(samples: Samples, classes: list[str]) -> Samples:
    """Return the samples with their labels spelt as in a checkpoint, whatever their letter case.

    Raises:
        BloodcellError: A class is not among the checkpoint's; the message names those that are.
    """
    spelling = _spelling(classes)
    names = {name: name if name in classes else spelling.get(name.casefold()) for name in set(samples.table["label"])}
    if unseen := sorted(name for name, known in names.items() if known is None):
        both = [name for name in names if names[name] is not None]
        raise BloodcellError(
            f"class {', '.join(unseen)} was not in training; the checkpoint knows {', '.join(classes)}\n"
            f"keep those alone with data.classes=[{','.join(sorted(both))}], or rename with data.class_map"
        )
    return replace(samples, table=samples.table.assign(label=samples.table["label"].map(names)))
