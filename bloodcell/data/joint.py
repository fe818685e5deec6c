"""Several data sets joined to one samples table; each keeps its own sources and its own split."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.kaggle import find_images, read_kaggle
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.readers import absolute, read_imagefolder, read_table, with_groups
from bloodcell.data.samples import Samples, relative, with_set_names
from bloodcell.runtime.config import cache_root as cache_folder
from bloodcell.runtime.errors import BloodcellError

_EXAMPLE = "two or more, 'data.sets={a: DIR, b: DIR}'"


def read_joint(sets: dict[str, Any] | list[str], cache_root: str | None) -> Samples:
    """Read and join several data sets, with the sources that an audit of each has found.

    The sets are name -> folder or CSV file, or a list of folders and files, which are named after them. In place of a
    folder or file, {root: it, group_regex: "..."} reads the sources from the paths, as `data.group_regex` does.

    Returns:
        The rows of one set after those of another, each in its own order. Paths are relative to the common parent
        folder of all sets; a source is named SET/SOURCE.

    Raises:
        BloodcellError: There are fewer than two sets, one is missing, or an image is in two of them.
    """
    places = named_sets(sets)
    entries = {str(name): entry for name, entry in sets.items()} if isinstance(sets, dict) else {}
    given = {name: _read_set(name, place, entries.get(name)) for name, place in places.items()}
    parts = {name: with_saved_sources(part, cache_folder(cache_root)) for name, part in given.items()}
    root = Path(os.path.commonpath([part.root.absolute() for part in parts.values()]))
    tables = []
    for name, part in parts.items():
        table = part.table.assign(path=[relative(file, root) for file in part.files()], set=name)
        tables.append(table.assign(source=with_set_names(table)))
    joined = pd.concat(tables, ignore_index=True)
    if (twice := joined["path"].duplicated()).any():
        path = joined["path"][twice.idxmax()]
        names = joined.loc[joined["path"] == path, "set"]
        raise BloodcellError(f"{path} is in two of data.sets, {' and '.join(names)}; each image may be in one")
    return Samples(joined, root)


def named_sets(sets: Any) -> dict[str, Path]:
    """Return `data.sets` as name -> folder or CSV file.

    Raises:
        BloodcellError: There are fewer than two sets, one does not exist, or one is given twice.
    """
    if isinstance(sets, list):
        pairs = [(place.stem if _is_table(place) else place.name, place) for place in map(_place, sets)]
    elif isinstance(sets, dict):
        pairs = [(str(name), _place(place)) for name, place in sets.items()]
    else:
        raise BloodcellError(f"data.sets={sets}; give {_EXAMPLE}")
    if len(pairs) < 2:
        raise BloodcellError(
            f"data.sets names {len(pairs) or 'no'} set; give {_EXAMPLE}, or use data=imagefolder data.root=DIR"
        )
    for number, (name, place) in enumerate(pairs):
        if not name or set(name) & set("/[]"):
            raise BloodcellError(f"data.sets: '{name}' cannot name a set; give a name without / [ ]")
        for other, elsewhere in pairs[:number]:
            if place.resolve() == elsewhere.resolve():
                raise BloodcellError(f"data.sets: {other} and {name} are the same {place}; name each set once")
            if name == other:
                raise BloodcellError(f"data.sets: two sets are called {name}; give {_EXAMPLE}")
    return dict(pairs)


def _place(value: Any) -> Path:
    """Return one entry of `data.sets` as the absolute path of an existing folder or CSV file."""
    if isinstance(value, dict):
        if unknown := set(value) - {"root", "group_regex"}:
            raise BloodcellError(f"data.sets: no key '{min(map(str, unknown))}' of a set; give root and group_regex")
        value = value.get("root")
    if not isinstance(value, str) or not value:
        raise BloodcellError(f"data.sets: {value} is no folder and no CSV table; give {_EXAMPLE}")
    place = absolute(value)
    what, exists = ("CSV table", place.is_file()) if _is_table(place) else ("folder", place.is_dir())
    if not exists:
        raise BloodcellError(f"data.sets: no such {what}: {place}; give an existing one")
    return place


def _is_table(place: Path) -> bool:
    return place.suffix.lower() == ".csv"


def _kind(place: Path) -> str:
    """Return the option of the `data` group that reads a set alone."""
    return "table" if _is_table(place) else "kaggle" if find_images(place) else "imagefolder"


def _read_set(name: str, place: Path, entry: Any) -> Samples:
    kind = _kind(place)
    if kind == "table":
        part = read_table(str(place), None, "path", "label", "group", "split")
    else:
        part = read_kaggle(str(place), False, None) if kind == "kaggle" else read_imagefolder(str(place))
    expression = entry.get("group_regex") if isinstance(entry, dict) else None
    return part if expression is None else with_groups(part, expression, f"data.sets.{name}.group_regex")


def audit_command(place: Path) -> str:
    """Return the command that audits one set."""
    kind = _kind(place)
    return shlex.join(["bloodcell", "audit", f"data={kind}", f"data.{'table' if kind == 'table' else 'root'}={place}"])
