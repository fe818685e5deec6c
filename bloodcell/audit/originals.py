"""Provenance with the original photographs at hand: which photograph is an image a copy of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.audit import unfinished
from bloodcell.audit.geometry import Alignment, align
from bloodcell.audit.keypoints import RECORD, Record, extract, mirror, mirrored_descriptors, root_sift
from bloodcell.audit.nuclei import Cells, compare_cells
from bloodcell.audit.threads import parallel
from bloodcell.audit.visual_words import Index, Vocabulary, strongest
from bloodcell.data.images import EXTENSIONS
from bloodcell.data.samples import identities
from bloodcell.runtime.errors import BloodcellError

#: Inliers of strong and of weak evidence. Null: 67,161 pairs of a photograph and another's mirror image, which
#: no slide can show: at most 5 (tests/benchmarks/audit_null.py). The copies in the Kaggle set have 45 and more.
STRONG, WEAK = 16, 10
#: Inliers of two photographs with overlapping fields. The null above has none by a rigid map.
OVERLAP = 9
#: Photographs, or their mirror images, that are compared with each image: of n photographs this many, and where they
#: are few, whose words are too few to vote well, `FEW` / n.
CANDIDATES, FEW = 4, 1400
#: Photographs that are compared with each photograph.
NEIGHBOURS = 60

#: The match of one image; `photograph` is -1 where nothing matches.
MATCH = np.dtype(
    [
        ("reason", "U120"),
        ("file_hash", np.uint64),
        ("pixel_hash", np.uint64),
        ("photograph", np.int32),
        ("evidence", np.int32),
    ]
)
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Photographs:
    """The original photographs, ready to be searched.

    Attributes:
        names: Bare file names without the ending, sorted.
        records: Their records, shape (n,).
        vocabulary: Visual words trained on them.
        index: Their inverted index; mirror images are found by mirrored queries.
        key: Digest of their identities.
    """

    names: list[str]
    records: Record
    vocabulary: Vocabulary
    index: Index
    key: str


def read_photographs(folder: Path, kept: Path, progress: unfinished.Progress) -> Photographs:
    """Describe and index the photographs of a folder.

    Raises:
        BloodcellError: The folder holds no photograph that can be read.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    keys = identities(paths)
    parts = unfinished.chunks(kept, "originals", keys, lambda items: _extract(paths, items), progress, "originals")
    records = np.concatenate([np.zeros(0, RECORD), *parts])
    usable = records["count"] > 0
    if not usable.any():
        raise BloodcellError(f"{folder} holds no original photograph that can be read; try data.originals=none")
    names = [path.stem for path, use in zip(paths, usable, strict=True) if use]
    records = records[usable]
    descriptors = root_sift(all_descriptors(records))
    vocabulary = Vocabulary(descriptors, len(records))
    index = Index(records["count"], vocabulary.words(descriptors), vocabulary.size)
    return Photographs(names, records, vocabulary, index, unfinished.digest(*keys))


def match(photographs: Photographs, paths: Sequence[Path], kept: Path, progress: unfinished.Progress) -> Array:
    """Find the photograph of each image: `MATCH` records, shape (len(paths),)."""
    keys = [f"{name} {photographs.key}" for name in identities(paths)]

    def compute(items: range) -> Array:
        records = _extract(paths, items)
        candidates = _candidates(photographs, records)
        pairs = [(records[i : i + 1], candidates[i]) for i in range(len(records))]
        return np.concatenate(parallel(lambda pair: _best(photographs, *pair), pairs))

    return np.concatenate(
        [
            np.zeros(0, MATCH),
            *unfinished.chunks(kept, "matches", keys, compute, progress, "matching with the originals"),
        ]
    )


def same_cell(photographs: Photographs, used: Sequence[int]) -> list[tuple[int, int, int]]:
    """Find the photographs that show the same white cell, by geometry alone.

    Two photographs of one place overlap by a rigid map; whether they show the same cell or only the same
    neighbourhood is told by the nuclei, laid upon each other by that map.

    Args:
        photographs: All photographs.
        used: Those that may be joined. Others are left out: a photograph of two cells that no image comes
            from would join the two.

    Returns:
        (first, second, inliers) for each pair, first < second.
    """
    found: dict[tuple[int, int], int] = {}
    for first, second, alignment, cells in overlaps(photographs, used):
        if cells is Cells.SAME:
            pair = min(first, second), max(first, second)
            found[pair] = max(found.get(pair, 0), alignment.inliers)
    return [(*pair, inliers) for pair, inliers in sorted(found.items())]


def overlaps(photographs: Photographs, used: Sequence[int]) -> list[tuple[int, int, Alignment, Cells]]:
    """Find the photographs whose fields overlap: (first, second, alignment, verdict of the nuclei)."""
    records, allowed = photographs.records, set(used)
    words = photographs.vocabulary.words(root_sift(all_descriptors(records)))
    near = strongest(photographs.index.votes(records["count"], words), NEIGHBOURS + 1)

    def compare(first: int) -> list[tuple[int, int, Alignment, Cells]]:
        rows = []
        for second in near[first]:
            if second == first or second not in allowed:
                continue
            alignment = align(records[first : first + 1], records[second : second + 1], rigid=True)
            if alignment.inliers >= OVERLAP:
                cells = compare_cells(records["map"][first], records["map"][second], alignment.matrix)
                rows.append((first, int(second), alignment, cells))
        return rows

    return [row for rows in parallel(compare, sorted(allowed)) for row in rows]


def all_descriptors(records: Record) -> Array:
    """Return the descriptors of all records, one record after the other: uint8 (sum of counts, 128)."""
    present = np.arange(records["descriptors"].shape[1]) < records["count"][:, None]
    return np.asarray(records["descriptors"][present])


def _extract(paths: Sequence[Path], items: range) -> Record:
    return np.concatenate(parallel(extract, [paths[item] for item in items]))


def _candidates(photographs: Photographs, records: Record) -> list[Array]:
    """Return the likeliest photographs of each record; numbers from n on mean: of its mirror image."""
    descriptors = root_sift(all_descriptors(records))
    votes = [
        photographs.index.votes(records["count"], photographs.vocabulary.words(queries)).toarray()
        for queries in (descriptors, mirrored_descriptors(descriptors))
    ]
    order = np.argsort(-np.hstack(votes), axis=1, kind="stable")
    return list(order[:, : max(CANDIDATES, FEW // len(photographs.names))])


def _best(photographs: Photographs, record: Record, candidates: Array) -> Array:
    """Return the `MATCH` of one record with its best candidate."""
    result = np.zeros(1, MATCH)
    for name in ("reason", "file_hash", "pixel_hash"):
        result[name] = record[name]
    result["photograph"] = -1
    mirrored, most = mirror(record), 0.0
    for candidate in candidates:
        plain, number = candidate < len(photographs.names), candidate % len(photographs.names)
        other = photographs.records[number : number + 1]
        found = align(record if plain else mirrored, other)
        # All of a copy lies in its own photograph, and only a part in another photograph of the same place.
        if found.inliers >= WEAK and found.inliers * found.covered > most:
            most = found.inliers * found.covered
            result["photograph"], result["evidence"] = number, found.inliers
    return result
