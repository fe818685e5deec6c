"""The tables of an audit: leaks between splits, contradicting labels, and files that exist twice."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from bloodcell.data.samples import SPLITS

LEAK_COLUMNS = ["source", "path_a", "split_a", "images_a", "path_b", "split_b", "images_b"]
CONFLICT_COLUMNS = ["source", "label_a", "images_a", "path_a", "label_b", "images_b", "path_b"]
DUPLICATE_COLUMNS = ["kind", "group", "path", "label", "split"]


def leaks(samples: pd.DataFrame, source: pd.Series) -> pd.DataFrame:
    """Return the sources in two splits, `LEAK_COLUMNS`: a row for each source and pair of splits.

    It has an example of both splits and the number of images there. A sample's split may be empty or missing.
    """
    table = samples.assign(source=source.to_numpy(), split=samples["split"].fillna(""))
    table = table[table["split"] != ""]
    rows = sorted(_pairs(table, "split"), key=lambda row: (_order(row[2]), _order(row[5])))
    return pd.DataFrame(rows, columns=LEAK_COLUMNS)


def conflicts(samples: pd.DataFrame, source: pd.Series) -> pd.DataFrame:
    """Return the sources whose images have different labels, `CONFLICT_COLUMNS`: a row for each pair of labels."""
    table = samples.assign(source=source.to_numpy())
    rows = [(s, a, n, p, b, m, q) for s, p, a, n, q, b, m in _pairs(table, "label")]
    return pd.DataFrame(rows, columns=CONFLICT_COLUMNS)


def duplicates(samples: pd.DataFrame, file_hash: pd.Series, pixel_hash: pd.Series) -> pd.DataFrame:
    """Return the files that exist twice or more, `DUPLICATE_COLUMNS`: a row for each file, numbered by group.

    The kind is "bytes", or "pixels" if the files differ but not their pictures. The hashes of the files' bytes and of
    their decoded pictures, uint64 (n,), are 0 for a file that cannot be read.
    """
    table = samples[["path", "label", "split"]].assign(file=file_hash.to_numpy(), picture=pixel_hash.to_numpy())
    table = table[(table["picture"] != 0) & table["picture"].duplicated(keep=False)]
    groups = table.groupby("picture", sort=False)
    kind = groups["file"].transform("nunique").map(lambda files: "bytes" if files == 1 else "pixels")
    table = table.assign(kind=kind, group=groups.ngroup() + 1)
    return table.sort_values("group", kind="stable")[DUPLICATE_COLUMNS].reset_index(drop=True)


def _pairs(table: pd.DataFrame, column: str) -> list[tuple[Any, ...]]:
    """Return (source, path, value, images, path, value, images) for each pair of values of one source."""
    varied = table.groupby("source")[column].transform("nunique") > 1
    rows = []
    for source, group in table[varied].groupby("source"):
        sides = [(part["path"].min(), value, len(part)) for value, part in group.groupby(column)]
        sides.sort(key=lambda side: _order(side[1]))
        rows += [(source, *a, *b) for a, b in combinations(sides, 2)]
    return rows


def _order(value: str) -> tuple[int, str]:
    """Return the sort key of a split or label: splits in their order, then names by alphabet."""
    return (SPLITS.index(value) if value in SPLITS else len(SPLITS), str(value))
