"""The audit of a data set: where each image comes from, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.audit import audit_tables, groups, originals, unfinished
from bloodcell.audit.result import Audit
from bloodcell.runtime.errors import BloodcellError

#: Changes when the same files would give another outcome; part of the key under which results are kept.
METHOD = 2

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class _Provenance:
    """Provenance of each image, all of shape (n,)."""

    source: Array
    photograph: Array
    evidence: Array
    strength: Array
    reason: Array
    file_hash: Array
    pixel_hash: Array


def audit(
    samples: pd.DataFrame,
    root: Path,
    originals_folder: Path | None,
    kept: Path,
    progress: unfinished.Progress | None = None,
) -> Audit:
    """Find the source of each image, and what the sources reveal.

    Args:
        samples: Columns path (relative to the root, POSIX), label and split (may be empty).
        root: The data root.
        originals_folder: Folder of the original photographs; None where there are none.
        kept: Folder for the progress. An audit that was interrupted goes on from there; what is kept there
            belongs to the files' path, size and time. `forget` removes it, once the outcome is written.
        progress: Called with (done, total, phase).

    Raises:
        BloodcellError: There are no samples, or the folder of originals is missing or holds no photograph.
    """
    samples = samples[["path", "label", "split"]].reset_index(drop=True)
    if samples.empty:
        raise BloodcellError(f"nothing to audit: there are no samples in {root}")
    tell = progress or (lambda done, total, phase: None)
    paths = [root / path for path in samples["path"]]
    folder = kept / f"method{METHOD}"
    if originals_folder is None:
        found = _without_originals(list(samples["path"]), paths, folder, tell)
    else:
        found = _with_originals(list(samples["path"]), paths, originals_folder, folder, tell)
    return _outcome(samples, found, originals_folder is not None)


def forget(kept: Path) -> None:
    """Remove the progress of an audit whose outcome is written."""
    unfinished.forget(kept / f"method{METHOD}")
    unfinished.forget(kept)


def _with_originals(
    names: list[str], paths: list[Path], folder: Path, kept: Path, tell: unfinished.Progress
) -> _Provenance:
    """Match the images with the photographs, join photographs of one cell, group the images left over."""
    if not folder.is_dir():
        raise BloodcellError(f"no folder of original photographs: {folder}; try data.originals=none")
    photographs = originals.read_photographs(folder, kept, tell)
    matches = originals.match(photographs, paths, kept, tell)
    number, evidence = matches["photograph"], matches["evidence"]
    used = sorted({int(n) for n in number if n >= 0})
    cell = _join(len(photographs.names), originals.same_cell(photographs, used))
    title = np.array([*photographs.names, ""], dtype=object)  # -1 finds the empty one
    found = _Provenance(
        source=np.array([*title[cell], ""], dtype=object)[number],
        photograph=title[number],
        evidence=evidence.copy(),
        strength=_strength(evidence, originals.STRONG, originals.WEAK),
        reason=matches["reason"],
        file_hash=matches["file_hash"],
        pixel_hash=matches["pixel_hash"],
    )
    rest = np.flatnonzero((number < 0) & (matches["reason"] == ""))
    others = _without_originals([names[i] for i in rest], [paths[i] for i in rest], kept, tell)
    for column in ("source", "evidence", "strength"):
        getattr(found, column)[rest] = getattr(others, column)
    missing = found.source == ""
    found.source[missing] = _own_source([names[i] for i in np.flatnonzero(missing)])
    return found


def _without_originals(names: list[str], paths: list[Path], kept: Path, tell: unfinished.Progress) -> _Provenance:
    """Group the images themselves; a group is named after its first image."""
    found = groups.group(paths, kept, tell)
    first = {int(label): place for place, label in reversed(list(enumerate(found.labels)))}
    own = _own_source(names)
    return _Provenance(
        source=np.array([own[first[int(label)]] for label in found.labels], dtype=object),
        photograph=np.full(len(paths), "", dtype=object),
        evidence=found.evidence,
        strength=_strength(found.evidence, groups.PLENTY, groups.LEAST),
        reason=found.reasons,
        file_hash=found.file_hashes,
        pixel_hash=found.pixel_hashes,
    )


def _outcome(samples: pd.DataFrame, found: _Provenance, with_originals: bool) -> Audit:
    """Draw up the tables."""
    columns = {name: getattr(found, name) for name in ("source", "photograph", "evidence", "strength")}
    sources = pd.DataFrame({"path": samples["path"], **columns})
    unreadable = found.reason != ""
    return Audit(
        samples=samples,
        sources=sources,
        leaks=audit_tables.leaks(samples, sources["source"]),
        conflicts=audit_tables.conflicts(samples, sources["source"]),
        duplicates=audit_tables.duplicates(samples, found.file_hash, found.pixel_hash),
        unreadable=pd.DataFrame({"path": samples["path"][unreadable], "reason": found.reason[unreadable]}).reset_index(
            drop=True
        ),
        with_originals=with_originals,
    )


def _join(number: int, pairs: list[tuple[int, int, int]]) -> Array:
    """Return the first member of each photograph's component, int (number,)."""
    cell = np.arange(number)
    for first, second, _ in pairs:
        low, high = sorted((cell[first], cell[second]))
        cell[cell == high] = low
    return cell


def _strength(evidence: Array, strong: int, weak: int) -> Array:
    names = np.array(["none", "weak", "strong"], dtype=object)
    return np.asarray(names[(evidence >= weak).astype(int) + (evidence >= strong)])


def _own_source(names: list[str]) -> Array:
    """Name a source after its first image, without the ending: unique, as images of one stem may differ in it."""
    return np.array([f"image:{name}" for name in names], dtype=object)
