"""The samples table: the one currency before the model, a row per image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv

#: path: relative to the data root, POSIX (absolute where it lies outside). label: class name. split: train, val,
#: test, test_simple, or empty where none is given. source: the physical cell, photograph, patient or slide that the
#: image comes from, empty where unknown. set: name of the data set that the row is from, empty where there is but one.
COLUMNS = ["path", "label", "split", "source", "set"]

SPLITS = ("train", "val", "test", "test_simple")


@dataclass(frozen=True)
class Samples:
    """A samples table and the folder that its paths are relative to."""

    table: pd.DataFrame
    root: Path

    def files(self) -> list[Path]:
        """Return the full path of each row's image."""
        return [self.root / path for path in self.table["path"]]

    def paths(self) -> list[str]:
        """Return the full path of each row's image as text, which takes less memory than `files`."""
        root = os.path.abspath(self.root)  # noqa: PTH100 - pathlib has no text
        return [os.path.join(root, path) for path in self.table["path"]]  # noqa: PTH118

    def of_split(self, *splits: str) -> Samples:
        """Return the rows of the named splits, renumbered from 0."""
        return Samples(self.table[self.table["split"].isin(splits)].reset_index(drop=True), self.root)

    def splits(self) -> list[str]:
        """Return the splits that have a row, in the order train, val, test, test_simple."""
        present = set(self.table["split"])
        return [split for split in SPLITS if split in present]

    def sets(self) -> list[str]:
        """Return the names of the data sets that were joined, in their order; none where there is but one."""
        return [str(name) for name in self.table["set"].unique() if name]

    def of_set(self, name: str) -> Samples:
        """Return the rows of the named data set, renumbered from 0."""
        return Samples(self.table[self.table["set"] == name].reset_index(drop=True), self.root)

    def source_names(self) -> frozenset[str]:
        """Return the sources, those of a joined set also by the name that they have in that set alone."""
        pairs = zip(self.table["set"], self.table["source"], strict=True)
        return frozenset(self.table["source"]) | {source.removeprefix(f"{name}/") for name, source in pairs if name}

    def sources_known(self) -> bool:
        """Say whether every image has a known source."""
        return bool(len(self.table)) and bool((self.table["source"] != "").all())


def samples_table(rows: list[tuple[Path, str, str, str]], root: Path) -> Samples:
    """Build the table from (file, label, split, source) rows, sorted by split and path.

    Raises:
        BloodcellError: There is no row, a file has two, or a name is no text.
    """
    if not rows:
        raise BloodcellError(f"no images found in {root}; it should hold one folder of images for each class")
    table = pd.DataFrame(
        [(relative(file, root), label, split, source, "") for file, label, split, source in rows], columns=COLUMNS
    )
    if (twice := table["path"].duplicated()).any():
        raise BloodcellError(f"{table['path'][twice.idxmax()]} is there twice in {root}; each image may be listed once")
    if odd := [path for path in table["path"] if not _is_text(path)]:
        name = odd[0].encode("utf-8", "backslashreplace").decode()
        raise BloodcellError(f"the file name {name} in {root} is not valid UTF-8; rename the file")
    order = table["split"].map({split: i for i, split in enumerate(SPLITS)}).fillna(-1)
    table = table.assign(order=order).sort_values(["order", "path"], kind="stable").drop(columns="order")
    return Samples(table.reset_index(drop=True), root)


def _is_text(path: str) -> bool:
    """Say whether a path can be written into a file; Linux allows names that are no text."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sources_of_set(table: pd.DataFrame) -> list[str]:
    """Return each row's source as SET/SOURCE where it is from a named set, so that those of two sets cannot collide."""
    pairs = zip(table["set"], table["source"], strict=True)
    return [f"{name}/{source}" if name and source else source for name, source in pairs]


def relative(file: Path, root: Path) -> str:
    """Return a file's path relative to the root as POSIX text; absolute where it lies outside the root."""
    try:
        return file.relative_to(root).as_posix()
    except ValueError:
        return file.absolute().as_posix()


def write_samples(samples: Samples, file: Path) -> None:
    """Write the table as CSV, the root in its own column so that the file stands alone."""
    write_csv(samples.table.assign(root=samples.root.absolute().as_posix()), file)


def read_samples(file: Path, root: str | None = None) -> Samples:
    """Read what `write_samples` wrote; an older file without the column `set` is of one data set.

    Args:
        file: The CSV file.
        root: The folder of the images, where it has moved since.

    Raises:
        BloodcellError: It is damaged.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        table = table if "set" in table else table.assign(set="")
        return Samples(table[COLUMNS], Path(root or table["root"].iloc[0]))
    except (ValueError, KeyError, IndexError) as error:
        raise BloodcellError(
            f"{file} is damaged; name the images instead, e.g. data=imagefolder data.root=DIR"
        ) from error


def identities(files: Sequence[str | Path]) -> list[str]:
    """Return each file's identity: full path, size in bytes and modification time, as one text.

    A file that cannot be looked at has size -1.
    """
    return [identity(os.path.abspath(file)) for file in files]  # noqa: PTH100


def identity(file: str) -> str:
    """Return one file's identity; see `identities`."""
    try:
        status = os.stat(file)  # noqa: PTH116
    except (OSError, ValueError):  # the latter of a zero byte in its name
        return f"{file}|-1|0"
    return f"{file}|{status.st_size}|{status.st_mtime_ns}"


def digest(samples: Samples) -> str:
    """Return 16 hexadecimal digits that change with any row of the table and with any of its files."""
    columns = [samples.table[name].astype(str) for name in samples.table.columns]
    text = "\n".join(map("|".join, zip(*columns, identities(samples.paths()), strict=True)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
