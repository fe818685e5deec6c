"""Several data sets as one samples table, each with its own sources and its own split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.kaggle import find_images, read_kaggle
from bloodcell.data.known_sources import with_kept_sources
from bloodcell.data.readers import absolute, read_imagefolder, read_table
from bloodcell.data.samples import Samples, relative, sources_of_set
from bloodcell.runtime.config import cache_root as cache_folder
from bloodcell.runtime.errors import BloodcellError


def read_joint(sets: dict[str, str] | list[str], cache_root: str | None) -> Samples:
    """Read every set, with the sources that an audit of it found, and join them.

    Args:
        sets: `data.sets`: name -> folder or CSV table; or a list of them, to be named after their folders.
        cache_root: `cache.root`, where audits are kept.

    Returns:
        The rows of one set after those of another, each in the order that it has alone. Paths are relative to the
        folder that holds all sets; a source is named SET/SOURCE.

    Raises:
        BloodcellError: There are not two sets, one is missing, or an image is in two of them.
    """
    places = named_sets(sets)
    parts = {name: with_kept_sources(read_set(place), cache_folder(cache_root)) for name, place in places.items()}
    root = Path(os.path.commonpath([part.root.absolute() for part in parts.values()]))
    tables = []
    for name, part in parts.items():
        table = part.table.assign(path=[relative(file, root) for file in part.files()], set=name)
        tables.append(table.assign(source=sources_of_set(table)))
    joined = pd.concat(tables, ignore_index=True)
    if (twice := joined["path"].duplicated()).any():
        path = joined["path"][twice.idxmax()]
        names = joined.loc[joined["path"] == path, "set"]
        raise BloodcellError(f"{path} is in two of data.sets, {' and '.join(names)}; each image may be in one")
    return Samples(joined, root)


def named_sets(sets: Any) -> dict[str, Path]:
    """Return `data.sets` as name -> folder or CSV file.

    Raises:
        BloodcellError: It names fewer than two, one that is not there, or one twice.
    """
    if isinstance(sets, list):
        places = [_place(place) for place in sets]
        pairs = [(place.stem if is_table(place) else place.name, place) for place in places]
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


_EXAMPLE = "two or more, 'data.sets={a: DIR, b: DIR}'"


def _place(value: Any) -> Path:
    """Return one entry of `data.sets` as an absolute path that is there."""
    if not isinstance(value, str) or not value:
        raise BloodcellError(f"data.sets: {value} is no folder and no CSV table; give {_EXAMPLE}")
    place = absolute(value)
    if not (place.is_file() if is_table(place) else place.is_dir()):
        what = "CSV table" if is_table(place) else "folder"
        raise BloodcellError(f"data.sets: no such {what}: {place}; give an existing one")
    return place


def is_table(place: Path) -> bool:
    """Say whether a set is given as a CSV table; else it is a folder."""
    return place.suffix.lower() == ".csv"


def is_kaggle(place: Path) -> bool:
    """Say whether a set is a folder in Kaggle's own layout."""
    return not is_table(place) and find_images(place) is not None


def read_set(place: Path) -> Samples:
    """Read one set as it would be read alone: a CSV table, Kaggle's layout, or class folders."""
    if is_table(place):
        return read_table(str(place), None, "path", "label", "group", "split")
    return read_kaggle(str(place), False, None) if is_kaggle(place) else read_imagefolder(str(place))


def audit_of_set(place: Path) -> str:
    """Return the command that finds the sources of one set."""
    if is_table(place):
        return f"bloodcell audit data=table data.table={place}"
    return f"bloodcell audit data={'kaggle' if is_kaggle(place) else 'imagefolder'} data.root={place}"
