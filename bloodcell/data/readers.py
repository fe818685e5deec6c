"""From what a user has on disk to the samples table: folders, a table, or painted smears."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.classes import with_classes
from bloodcell.data.samples import Samples, samples_table, sources_of_set
from bloodcell.runtime.config import cache_root as cache_folder
from bloodcell.runtime.config import instantiate
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_cells
from bloodcell.runtime.schema.data import DataConfig


def load_samples(data: DataConfig) -> Samples:
    """Read the samples table that the `data` group describes, with the groups as sources and the wanted classes alone.

    Raises:
        BloodcellError: The reader finds nothing, the expression is wrong, or a class is not there.
    """
    samples: Samples = instantiate(data.reader)
    if data.group_regex is not None:
        samples = with_groups(samples, data.group_regex)
    return with_classes(samples, data.class_map, data.classes)


def with_groups(samples: Samples, expression: str) -> Samples:
    """Return the samples with each source read from its path: the expression's first group, or its whole match.

    Raises:
        BloodcellError: The expression is not valid, or finds nothing in some path.
    """
    try:
        pattern = re.compile(str(expression))
    except re.error as error:
        raise BloodcellError(f"data.group_regex='{expression}' is no regular expression: {error}") from error
    matches = [pattern.search(path) for path in samples.table["path"]]
    sources = [(match[min(pattern.groups, 1)] or "") if match else "" for match in matches]
    missing = [path for path, source in zip(samples.table["path"], sources, strict=True) if not source]
    if missing:
        raise BloodcellError(
            f"data.group_regex='{expression}' finds no group in {len(missing)} of {len(matches)} paths, "
            f"e.g. {missing[0]}"
        )
    table = samples.table.assign(source=sources)
    return replace(samples, table=table.assign(source=sources_of_set(table)))


def read_imagefolder(
    root: str | None, train_dir: str | None = None, val_dir: str | None = None, test_dir: str | None = None
) -> Samples:
    """Read class folders: those of `root`, of its train, val and test folders, or of the folders named.

    Args:
        root: A folder of class folders, or of split folders (any letter case) of class folders.
        train_dir: The class folders of training, in place of those in `root`.
        val_dir: Those of validation, if there are any; goes over one in `root`.
        test_dir: Those of the test, likewise.

    Raises:
        BloodcellError: Neither is given, a folder is missing, or there is no image.
    """
    from bloodcell.data.folders import ClassFolders, split_folders

    if train_dir is None and (val_dir or test_dir) and root is None:
        raise BloodcellError("data.train_dir is not set; give it beside data.val_dir and data.test_dir")
    named = {"train": train_dir, "val": val_dir, "test": test_dir}
    folders = {split: absolute(folder) for split, folder in named.items() if folder}
    if train_dir is not None:
        base = absolute(root) if root else Path(os.path.commonpath(list(folders.values())))
    else:
        base = existing_folder(root)
        folders = (split_folders(base) or {"": base}) | folders
    rows = [row for split, folder in folders.items() for row in ClassFolders(folder).rows(split)]
    return samples_table(rows, base)


def absolute(path: str | Path) -> Path:
    """Return a user's path as an absolute one; `~` is the home folder."""
    return Path(path).expanduser().absolute()


def existing_folder(root: str | None) -> Path:
    """Return `data.root` as a path.

    Raises:
        BloodcellError: It is not set, or no such folder exists.
    """
    if not root:  # an empty text would be the working folder
        raise BloodcellError("data.root is not set; name the folder of images with data.root=DIR")
    folder = absolute(root)
    if not folder.is_dir():
        raise BloodcellError(f"no such folder: data.root={folder}; give an existing one with data.root=DIR")
    return folder


def read_table(
    table: str, root: str | None, path_column: str, label_column: str, group_column: str, split_column: str
) -> Samples:
    """Read a CSV file with a row per image.

    Args:
        table: The file.
        root: What relative paths are relative to; None: the folder of the file.
        path_column: The column of image paths.
        label_column: The column of class names.
        group_column: The column of patients or slides; used where the file has it.
        split_column: The column of splits (train, val, test in any letter case); used where the file has it.

    Raises:
        BloodcellError: The file is missing or no CSV, or a column, path, label or split is.
    """
    file = absolute(table)
    rows = read_cells(file, "data.table")
    if rows.empty:
        raise BloodcellError(f"data.table={file} lists no image; it should have a row for each")
    for column in (path_column, label_column):
        if column not in rows:
            raise BloodcellError(f"{file} has no column '{column}'; it has {', '.join(map(str, rows.columns))}")
        if (empty := rows.index[rows[column].str.strip() == ""]).size:
            raise BloodcellError(f"{file}, row {empty[0]}: no {column}")
    base = existing_folder(root) if root else file.parent
    groups = rows[group_column] if group_column in rows else [""] * len(rows)
    splits = rows[split_column] if split_column in rows else [""] * len(rows)
    return samples_table(
        [
            (_inside(base, path), label.strip(), _split_name(split, file), group.strip())
            for path, label, split, group in zip(rows[path_column], rows[label_column], splits, groups, strict=True)
        ],
        base,
    )


def _inside(base: Path, path: str) -> Path:
    """Return a table's path below its root, without detours: one file has one name."""
    return Path(os.path.normpath(base / path.replace("\\", "/")))


def _split_name(text: str, file: Path) -> str:
    from bloodcell.data.folders import SPLIT_NAMES

    if (name := text.strip().lower()) and name not in SPLIT_NAMES:
        raise BloodcellError(f"{file}: unknown split '{text}'; use train, val or test, or leave it empty")
    return SPLIT_NAMES.get(name, "")


def read_synthetic(root: str | None, cache_root: str | None, **smears: Any) -> Samples:
    """Paint the smears, or find them painted, and read them with their known sources.

    Args:
        root: The folder; None: one below the cache root, named after what is painted.
        cache_root: `cache.root`.
        **smears: What is painted; see `bloodcell.data.synthetic.smears.Smears`.
    """
    from bloodcell.data.synthetic.smears import Smears, write_smears

    try:
        painted = Smears(**smears)
    except TypeError as error:
        raise BloodcellError(f"data.reader: {error}") from error
    tag = hashlib.sha256(repr(painted).encode()).hexdigest()[:12]
    folder = absolute(root) if root else cache_folder(cache_root) / "synthetic" / tag
    write_smears(folder, painted)
    truth = pd.read_csv(folder / "truth.csv", dtype=str)
    columns = zip(truth["path"], truth["label"], truth["split"].str.lower(), truth["source"], strict=True)
    return samples_table([(folder / path, *rest) for path, *rest in columns], folder)
