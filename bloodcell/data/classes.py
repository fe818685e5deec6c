"""Class names: renamed, selected, and matched in any spelling."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.runtime.console import counted, named, say
from bloodcell.runtime.errors import BloodcellError, folded, nearest, written


def select_classes(samples: Samples, class_map: dict[Any, Any] | None, classes: list[Any] | None) -> Samples:
    """Return the samples with their classes renamed and unwanted classes left out.

    Names that differ only in letter case, blanks or composed letters are one class, spelled as in the first row that
    has it; a line names them.

    Args:
        samples: The samples.
        class_map: `data.class_map`: class name in the data (any spelling) -> new name; None leaves the class out.
        classes: `data.classes`: the classes to keep after the mapping, in any spelling; None keeps all.

    Raises:
        BloodcellError: An entry is not a name or matches no class, or no image is left.
    """
    table = samples.table
    _say_spellings(table["label"].unique())
    if class_map:
        table = table.assign(label=table["label"].map(_new_names(class_map, list(table["label"].unique()))))
        table = table[table["label"].notna()]
    spelling = _spelling(table["label"].unique())
    table = table.assign(label=[spelling[folded(name)] for name in table["label"]])
    if classes is not None:
        table = table[table["label"].isin(_selected(classes, list(table["label"].unique())))]
    if table.empty:
        raise BloodcellError("data.class_map and data.classes leave no image; name the classes to keep")
    return replace(samples, table=table.reset_index(drop=True))


def _spelling(names: Iterable[str]) -> dict[str, str]:
    """Return folded name -> name; the first of those that are the same, without blanks around it."""
    return {folded(name): unicodedata.normalize("NFC", name.strip()) for name in reversed(list(names))}


def _say_spellings(names: Iterable[str]) -> None:
    """Print one line on names that are one class."""
    spellings = defaultdict(list)
    for name in names:
        spellings[folded(name)].append(repr(name))
    if several := [" and ".join(same) for same in spellings.values() if len(same) > 1]:
        said = "; ".join(several[:4]) + (" ..." if len(several) > 4 else "")
        say(f"note: names that differ in letter case, blanks or composed letters are one class: {said}")


def _new_names(class_map: dict[Any, Any], found: list[str]) -> dict[str, str | None]:
    """Return for each class in the data its new name; None leaves it out."""
    if not isinstance(class_map, dict):
        raise BloodcellError(f"data.class_map={class_map}; give {{name as found: name to use}}, or null")
    mapped: dict[str, str | None] = {}
    for name, new in class_map.items():
        _require_class("data.class_map", _text(name), found)
        if folded(_text(name)) in mapped:
            raise BloodcellError(f"data.class_map names {name} twice, in another spelling; keep one of them")
        if isinstance(new, dict | list) or new == "":
            raise BloodcellError(f"data.class_map={{{name}: {new}}}; give the name to use, or null to leave it out")
        mapped[folded(_text(name))] = None if new is None else str(new)
    return {name: mapped.get(folded(name), name) for name in found}


def _selected(classes: list[Any], found: list[str]) -> list[str]:
    """Return the names in the data of the wanted classes."""
    if not isinstance(classes, list) or not classes:
        raise BloodcellError(f"data.classes={classes}; give a list of class names, e.g. data.classes=[a,b], or null")
    for name in classes:
        _require_class("data.classes", _text(name), found)
    wanted = {folded(_text(name)) for name in classes}
    return [name for name in found if folded(name) in wanted]


def _text(name: Any) -> str:
    return "null" if name is None else str(name)  # a class may be called null


def _require_class(key: str, name: str, found: list[str]) -> None:
    if folded(name) not in set(map(folded, found)):
        raise BloodcellError(f"{key}: no class '{name}' in the data; {nearest(name, found)}")


def with_spelling_of(samples: Samples, classes: list[str]) -> Samples:
    """Return the samples with their labels spelled as a checkpoint's classes, matched in any spelling.

    Raises:
        BloodcellError: The checkpoint does not know a class.
    """
    spelling = {folded(name): name for name in reversed(classes)}
    names = {name: name if name in classes else spelling.get(folded(name)) for name in set(samples.table["label"])}
    if unseen := sorted(name for name, known in names.items() if known is None):
        known = sorted(name for name in names if names[name] is not None)
        listed = ",".join(map(written, known))
        keep = f"keep only known classes with data.classes=[{listed}], or rename" if known else "rename them"
        raise BloodcellError(
            f"class {named(unseen)} was not in training; the checkpoint knows {named(classes)}\n"
            f"{keep} with data.class_map"
        )
    return replace(samples, table=samples.table.assign(label=samples.table["label"].map(names)))


def without_classes(samples: Samples, classes: list[str]) -> Samples:
    """Return the samples without those of some classes; a line has their number.

    Raises:
        BloodcellError: None is left.
    """
    table = samples.table
    out = table["label"].isin(classes)
    if not out.any():
        return samples
    names = named(sorted(table.loc[out, "label"].unique()))
    if out.all():
        raise BloodcellError(f"all images are of {names}, which classes=... leaves out; name their classes there")
    say(f"note: {counted(int(out.sum()), 'image')} of {names} not evaluated, as classes=... leaves these classes out")
    return replace(samples, table=table[~out].reset_index(drop=True))


def missing_classes(table: pd.DataFrame, classes: list[str]) -> list[str]:
    """Return a note for each split that lacks classes, given the columns split and label."""
    parts = {split: sorted(set(classes) - set(labels)) for split, labels in table.groupby("split", sort=False)["label"]}
    return [
        f"note: the {split} part has no image of {named(names)}; its macro scores are over the other classes"
        for split, names in parts.items()
        if names
    ]
