"""The audit of a data set: the source of each image, leaks between splits, contradicting labels and duplicates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bloodcell.audits import audit_tables, groups, originals
from bloodcell.audits.chunks import Array, ChunkStore
from bloodcell.audits.result import Audit
from bloodcell.runtime.console import Advance

#: Changes if the same files would give another outcome; part of the key under which results are kept.
METHOD = 2


def audit(
    samples: pd.DataFrame,
    root: Path,
    originals_folder: Path | None,
    kept: Path,
    progress: Advance = lambda done, total, what=None: None,
) -> Audit:
    """Find the source of each image, and what the sources reveal.

    Args:
        samples: Columns path (relative to the root, POSIX), label and split (may be empty); one row or more.
        root: The data root.
        originals_folder: The existing folder of the original photographs; None if there are none.
        kept: Folder of intermediate results, from which an interrupted audit continues.
        progress: Called with the numbers of images done and to do in each phase, and its name.

    Raises:
        BloodcellError: The folder of originals holds no photograph that can be read.
    """
    samples = samples[["path", "label", "split"]].reset_index(drop=True)
    store = ChunkStore(kept / f"method{METHOD}", progress)
    if originals_folder is None:
        found = _without_originals(samples["path"], root, store)
    else:
        found = _with_originals(samples["path"], root, originals_folder, store)
    return Audit(
        samples=samples,
        sources=found[["path", "source", "photograph", "evidence", "strength"]],
        leaks=audit_tables.leaks(samples, found["source"]),
        conflicts=audit_tables.conflicts(samples, found["source"]),
        duplicates=audit_tables.duplicates(samples, found["file_hash"], found["pixel_hash"]),
        unreadable=found.loc[found["reason"] != "", ["path", "reason"]].reset_index(drop=True),
    )


def _with_originals(names: pd.Series, root: Path, folder: Path, store: ChunkStore) -> pd.DataFrame:
    """Match the images with the photographs, join photographs of one cell, group the images that match none."""
    photographs = originals.read_photographs(folder, store)
    matches = originals.match(photographs, [root / name for name in names], store)
    number, evidence = matches["photograph"], matches["evidence"]
    cell = originals.first_of_cell(photographs, sorted({int(n) for n in number if n >= 0}))
    title = np.array([*photographs.names, ""], dtype=object)  # -1 finds the empty one
    columns = {name: matches[name] for name in ("evidence", "reason", "file_hash", "pixel_hash")}
    found = pd.DataFrame({"path": names, "source": title[cell[number]], "photograph": title[number], **columns})
    found["strength"] = _strength(evidence, originals.STRONG, originals.WEAK)
    found.loc[number < 0, "source"] = "image:" + names
    rest = found.index[(number < 0) & (matches["reason"] == "")]
    others = _without_originals(names[rest], root, store).set_index(rest)
    for column in ("source", "evidence", "strength"):
        found.loc[rest, column] = others[column]
    return found


def _without_originals(names: pd.Series, root: Path, store: ChunkStore) -> pd.DataFrame:
    """Group the images; a group is named after its first image, with its ending: two files may have one stem."""
    found = groups.group([root / name for name in names], store)
    found["path"] = names.to_numpy()
    found["source"] = "image:" + found.groupby("group")["path"].transform("first")
    found["photograph"] = ""
    found["strength"] = _strength(found["evidence"].to_numpy(), groups.PLENTY, groups.LEAST)
    return found


def _strength(evidence: Array, strong: int, weak: int) -> Array:
    names = np.array(["none", "weak", "strong"], dtype=object)
    return np.asarray(names[(evidence >= weak).astype(int) + (evidence >= strong)])
