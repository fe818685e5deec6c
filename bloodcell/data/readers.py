"""Readers of the samples table: from class folders, a CSV file, or synthetic smears."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.classes import select_classes
from bloodcell.data.corrected_samples import confirmed_pictures, is_corrections
from bloodcell.data.folder_names import SPLIT_NAMES
from bloodcell.data.layouts import class_folder_rows, split_folders
from bloodcell.data.samples import Samples, samples_table, with_set_names
from bloodcell.runtime.config import cache_root as cache_folder
from bloodcell.runtime.config import instantiate
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_cells, with_known_columns
from bloodcell.runtime.schema.data import DataConfig

_PAINTED = "synthetic"  # folder of the painted smears in the cache


def load_samples(data: DataConfig) -> Samples:
    """Read the samples that the `data` group describes, with groups as sources and only the selected classes.

    Raises:
        BloodcellError: The reader finds nothing, `data.group_regex` is wrong, or a class is not in the data.
    """
    return selected(instantiate(data.reader), data)


def selected(samples: Samples, data: DataConfig) -> Samples:
    """Return samples with groups as sources and only the selected classes; see `load_samples`."""
    if data.group_regex is not None:
        samples = with_groups(samples, data.group_regex)
    return select_classes(samples, data.class_map, data.classes)


def with_groups(samples: Samples, expression: str, key: str = "data.group_regex") -> Samples:
    """Return the samples with each source read from the path: the expression's first group, or its whole match.

    `key` is the setting that has the expression.

    Raises:
        BloodcellError: The expression is not valid, or finds nothing in a path.
    """
    try:
        pattern = re.compile(str(expression))
    except re.error as error:
        raise BloodcellError(f"{key}='{expression}' is no regular expression: {error}") from error
    matches = [pattern.search(path) for path in samples.table["path"]]
    sources = [(match[min(pattern.groups, 1)] or "") if match else "" for match in matches]
    missing = [path for path, source in zip(samples.table["path"], sources, strict=True) if not source]
    if missing:
        raise BloodcellError(
            f"{key}='{expression}' finds no group in {len(missing)} of {len(matches)} paths, e.g. {missing[0]}"
        )
    table = samples.table.assign(source=sources)
    return replace(samples, table=table.assign(source=with_set_names(table)))


def read_imagefolder(
    root: str | None, train_dir: str | None = None, val_dir: str | None = None, test_dir: str | None = None
) -> Samples:
    """Read class folders: those in `root`, in its split folders (any letter case), or in the given folders.

    With `train_dir`, `root` is not read; `val_dir` and `test_dir` replace the folders of those splits in `root`.

    Raises:
        BloodcellError: Neither `root` nor `train_dir` is given, a folder is missing, or there is no image.
    """
    if train_dir is None and (val_dir or test_dir) and root is None:
        raise BloodcellError("data.train_dir is not set; give it beside data.val_dir and data.test_dir")
    named = {"train": train_dir, "val": val_dir, "test": test_dir}
    folders = {split: absolute(folder) for split, folder in named.items() if folder}
    if train_dir is not None:
        base = absolute(root) if root else Path(os.path.commonpath(list(folders.values())))
    else:
        base = existing_folder(root)
        folders = (split_folders(base, folders) or {"": base}) | folders
    rows = {split: class_folder_rows(folder, split) for split, folder in folders.items()}
    if empty := [split for split in rows if named.get(split) and not rows[split]]:
        raise BloodcellError(f"no images found in data.{empty[0]}_dir={folders[empty[0]]}; give another one")
    return samples_table([row for part in rows.values() for row in part], base)


def absolute(path: str | Path) -> Path:
    """Return a user's path as an absolute one; `~` is the home folder."""
    return Path(path).expanduser().absolute()


def existing_folder(root: str | None) -> Path:
    """Return `data.root` as an absolute path.

    Raises:
        BloodcellError: It is not set, or the folder does not exist.
    """
    if not root:  # an empty text would mean the working folder
        raise BloodcellError("data.root is not set; name the folder of images with data.root=DIR")
    folder = absolute(root)
    if not folder.is_dir():
        raise BloodcellError(f"no such folder: data.root={folder}; give an existing one with data.root=DIR")
    return folder


def read_table(
    table: str,
    root: str | None,
    path_column: str,
    label_column: str,
    group_column: str,
    split_column: str,
    unlabelled: bool = False,
) -> Samples:
    """Read a CSV file with a row per image; conf/data/table.yaml describes the arguments.

    The columns `group` and `split` (train, val, test in any letter case) are optional in the file. A line names the
    columns that are not read. Of a corrections file, pictures of one cell each are read whose class humans agree on.
    With `unlabelled`, rows may have no label: they are left out, and a line counts them.

    Raises:
        BloodcellError: The file is missing or not a CSV file, or a column, path, label or split is missing or wrong.
    """
    file = absolute(table)
    columns = [str(name) for name in (path_column, label_column, group_column, split_column)]
    path_column, label_column, group_column, split_column = columns
    rows = with_known_columns(read_cells(file, "data.table"), columns, file)
    if is_corrections(rows):
        rows = confirmed_pictures(file)
    if rows.empty:
        raise BloodcellError(f"data.table={file} lists no image; it should have a row for each")
    for column in columns:
        if column not in rows and column not in ("group", "split"):
            raise BloodcellError(f"{file} has no column '{column}'; it has {', '.join(map(str, rows.columns))}")
    if unread := [str(name) for name in rows if name not in columns]:
        say(f"note: {file}: not read: {', '.join(unread)}; read are the columns {', '.join(columns)}")
    if unlabelled and (without := rows[label_column].str.strip() == "").any():
        rows = rows[~without]
        say(f"note: {file}: {counted(int(without.sum()), 'row')} without a label, left out")
        if rows.empty:
            raise BloodcellError(f"data.table={file} has no row with a label; label some first")
    for column in (path_column, label_column):
        if (empty := rows.index[rows[column].str.strip() == ""]).size:
            raise BloodcellError(f"{file}, row {empty[0]}: no {column}")
    base = existing_folder(root) if root else file.parent
    groups = rows[group_column] if group_column in rows else [""] * len(rows)
    splits = rows[split_column] if split_column in rows else [""] * len(rows)
    return samples_table(
        [
            (_normal_path(base, path), label.strip(), _split_name(split, file), group.strip())
            for path, label, split, group in zip(rows[path_column], rows[label_column], splits, groups, strict=True)
        ],
        base,
    )


def _normal_path(base: Path, path: str) -> Path:
    """Return a table's path below its root without `..`, so that one file has one path."""
    stripped = path.strip()
    path = path if path != stripped and (base / path).exists() else stripped  # blanks may belong to the name
    return Path(os.path.normpath(base / path.replace("\\", "/")))


def _split_name(text: str, file: Path) -> str:
    if (name := text.strip().lower()) and name not in SPLIT_NAMES:
        raise BloodcellError(f"{file}: unknown split '{text}'; use train, val or test, or leave it empty")
    return SPLIT_NAMES.get(name, "")


def data_set_name(samples: Samples) -> str:
    """Return the name of a data set: those of the joined sets, else that of its folder."""
    folder = samples.root.absolute()
    return " + ".join(samples.sets()) or ("synthetic smears" if folder.parent.name == _PAINTED else folder.name)


def read_synthetic(root: str | None, cache_root: str | None, **smears: Any) -> Samples:
    """Read synthetic smears with their known sources from `root` or the cache; paint them first if they are not there.

    The other arguments are the fields of `bloodcell.data.synthetic.smears.Smears`.
    """
    from bloodcell.data.synthetic.smears import Smears, write_smears

    try:
        settings = Smears(**smears)
    except TypeError as error:
        raise BloodcellError(f"data.reader: {error}") from error
    tag = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    folder = absolute(root) if root else cache_folder(cache_root) / _PAINTED / tag
    write_smears(folder, settings)
    truth = pd.read_csv(folder / "truth.csv", dtype=str)
    columns = zip(truth["path"], truth["label"], truth["split"].str.lower(), truth["source"], strict=True)
    return samples_table([(folder / path, *rest) for path, *rest in columns], folder)
