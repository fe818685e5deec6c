"""The samples table: a row per image with path, class name, split and source.

The source is the physical cell, photograph, slide or patient that an image comes from. Two images with one source are
not independent and must not be in both training and test.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bloodcell.data.content import UNREADABLE, content_ids
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv

#: path: relative to the data root, POSIX (absolute if outside it). label: class name. split: train, val, test,
#: test_simple, or empty if not given. source: empty if unknown. set: name of the data set, empty if there is only one.
#: Further columns, once the files were read: content identifies a file's bytes, pixels what they show.
COLUMNS = ["path", "label", "split", "source", "set"]

SPLITS = ("train", "val", "test", "test_simple")


@dataclass(frozen=True)
class Samples:
    """A samples table and the folder that its paths are relative to.

    Attributes:
        table: The rows; see `COLUMNS`.
        root: The folder.
        white: The value taken for white in files with more than 8 bits that declare none; None: there are none, or they
            were not read yet.
    """

    table: pd.DataFrame
    root: Path
    white: float | None = None

    def files(self) -> list[Path]:
        """Return the full path of each row's image."""
        return [self.root / path for path in self.table["path"]]

    def paths(self) -> list[str]:
        """Return the full path of each row's image as text, which takes less memory than `files`."""
        root = os.path.abspath(self.root)  # noqa: PTH100 - pathlib has no text
        return [os.path.join(root, path) for path in self.table["path"]]  # noqa: PTH118 - as above

    def of_split(self, *splits: str) -> Samples:
        """Return the rows of the given splits, numbered from 0."""
        return replace(self, table=self.table[self.table["split"].isin(splits)].reset_index(drop=True))

    def splits(self) -> list[str]:
        """Return the splits that have a row, in the order train, val, test, test_simple."""
        present = set(self.table["split"])
        return [split for split in SPLITS if split in present]

    def sets(self) -> list[str]:
        """Return the names of the joined data sets, in their order; an empty list for a single data set."""
        return [str(name) for name in self.table["set"].unique() if name]

    def of_set(self, name: str) -> Samples:
        """Return the rows of a joined data set, numbered from 0."""
        return replace(self, table=self.table[self.table["set"] == name].reset_index(drop=True))

    def source_names(self) -> frozenset[str]:
        """Return the sources; those of a joined data set both with and without the set's name."""
        pairs = zip(self.table["set"], self.table["source"], strict=True)
        return frozenset(self.table["source"]) | {source.removeprefix(f"{name}/") for name, source in pairs if name}

    def sources_known(self) -> bool:
        """Return whether there are images and each has a known source."""
        return bool(len(self.table)) and bool((self.table["source"] != "").all())


def samples_table(rows: list[tuple[Path, str, str, str]], root: Path) -> Samples:
    """Build the table from (file, label, split, source) rows, sorted by split and path.

    Raises:
        BloodcellError: There is no row, a file has two rows, or a file name is not valid UTF-8.
    """
    if not rows:
        raise BloodcellError(f"no images found in {root}; it should hold one folder of images for each class")
    paths = [relative(file, root) for file, *_ in rows]
    # Linux allows file names that are not text, and they can be written to no file and to no table
    if odd := [path for path in paths if path.encode("utf-8", "replace").decode() != path]:
        name = odd[0].encode("utf-8", "backslashreplace").decode()
        raise BloodcellError(f"the file name {name} in {root} is not valid UTF-8; rename the file")
    table = pd.DataFrame([(path, *rest, "") for path, (_, *rest) in zip(paths, rows, strict=True)], columns=COLUMNS)
    if (twice := table["path"].duplicated()).any():
        raise BloodcellError(f"{table['path'][twice.idxmax()]} is there twice in {root}; each image may be listed once")
    order = table["split"].map({split: i for i, split in enumerate(SPLITS)}).fillna(-1)
    table = table.assign(order=order).sort_values(["order", "path"], kind="stable").drop(columns="order")
    return Samples(table.reset_index(drop=True), root)


def with_set_names(table: pd.DataFrame) -> list[str]:
    """Return each row's source as SET/SOURCE, so that sources of different data sets are never the same."""
    pairs = zip(table["set"], table["source"], strict=True)
    return [f"{name}/{source}" if name and source else source for name, source in pairs]


def relative(file: Path, root: Path) -> str:
    """Return a file's path relative to the root as POSIX text; absolute if the file is outside the root."""
    try:
        return file.relative_to(root).as_posix()
    except ValueError:
        return file.absolute().as_posix()


def write_samples(samples: Samples, file: Path) -> None:
    """Write the table as CSV, with columns for the root and the number of rows, by which a damage is seen."""
    write_csv(samples.table.assign(root=samples.root.absolute().as_posix(), rows=len(samples.table)), file)


def read_samples(file: Path, root: str | None = None) -> Samples:
    """Read a file of `write_samples`, also an older one with fewer columns; `root` replaces its root if given.

    Raises:
        BloodcellError: The file is damaged.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        table = table if "set" in table else table.assign(set="")
        if "rows" in table and set(table["rows"]) != {str(len(table))}:
            raise ValueError("rows are missing")
        further = [name for name in ("content", "pixels") if name in table]
        return Samples(table[COLUMNS + further], Path(root or table["root"].iloc[0]))
    except (ValueError, KeyError, IndexError) as error:
        raise BloodcellError(
            f"{file} is damaged; name the images instead, e.g. data=imagefolder data.root=DIR"
        ) from error


def contents(samples: Samples) -> list[str]:
    """Return what identifies the content of each row's file; see `bloodcell.data.content.content_ids`."""
    return list(samples.table["content"]) if "content" in samples.table else content_ids(samples.paths())


def with_contents(samples: Samples, cache: Path) -> Samples:
    """Return the samples with the column content; the cache root keeps what was found."""
    return replace(samples, table=samples.table.assign(content=content_ids(samples.paths(), cache)))


def changes_since(recorded: Samples, present: Samples) -> str:
    """Return one line on recorded images that are gone or have another content now; empty if there are none.

    Args:
        recorded: The samples as they were.
        present: The same rows `with_contents` of today.
    """
    table, now = recorded.table, pd.Series(contents(present))
    gone = now.str.endswith(UNREADABLE)
    if gone.any():
        row = table[gone.to_numpy()].iloc[0]
        return (
            f"{gone.sum():,} of its {len(table):,} images are not in {present.root} any more, e.g. {row.path} "
            f"(class {row.label}); put them back, or if all have moved, say where with data.root=DIR"
        )
    changed = (now != table["content"]) & (table["content"] != "") if "content" in table else gone
    if not changed.any():
        return ""
    example = table["path"][changed.idxmax()]
    return f"{changed.sum():,} of its {len(table):,} images have changed in {present.root}, e.g. {example}"


def digest(samples: Samples) -> str:
    """Return 16 hexadecimal digits that change with any row of the table and the content of any of its files."""
    columns = [samples.table[name].astype(str) for name in COLUMNS]
    text = "\n".join(map("|".join, zip(*columns, contents(samples), strict=True)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
