"""Sources with the original photographs: which photograph an image is a copy of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bloodcell.audits.chunks import Array, ChunkStore, digest, parallel
from bloodcell.audits.geometry import align, compare
from bloodcell.audits.keypoints import FILE, Record, descriptors_of, extract_all, mirror
from bloodcell.audits.nuclei import Cells
from bloodcell.audits.visual_words import Index, Vocabulary, strongest
from bloodcell.data.content import content_ids
from bloodcell.data.images import EXTENSIONS
from bloodcell.runtime.errors import BloodcellError

#: Inliers of strong and of weak evidence. Null: 67,161 pairs of a photograph and another's mirror image, which
#: no slide can show: at most 5 (tests/benchmarks/audit_null.py). The copies in the Kaggle set have 45 and more.
STRONG, WEAK = 16, 10
#: Inliers of two photographs with overlapping fields. The null above has none by a rigid map.
OVERLAP = 9
#: Photographs, or their mirror images, that are compared with each image. Few photographs have too few visual words to
#: vote well, so of n photographs `FEW` / n are compared if that is more.
CANDIDATES, FEW = 4, 1400
#: Photographs that are compared with each photograph.
NEIGHBOURS = 60

#: The match of one image; `photograph` is -1 if nothing matches.
MATCH = np.dtype([*FILE, ("photograph", np.int32), ("evidence", np.int32)])


@dataclass(frozen=True)
class Photographs:
    """The original photographs, ready to be searched."""

    names: list[str]  # bare file names without the ending, sorted
    records: Record  # shape (n,)
    index: Index  # of the records; mirror images are found by mirrored queries
    key: str  # digest of their identities


def read_photographs(folder: Path, store: ChunkStore) -> Photographs:
    """Describe and index the photographs of a folder.

    Raises:
        BloodcellError: The folder holds no photograph that can be read.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    keys = content_ids(paths)
    parts = store.results("originals", keys, lambda items: extract_all(paths[items]))
    records = np.concatenate([extract_all([]), *parts])
    usable = records["count"] > 0
    if not usable.any():
        raise BloodcellError(f"{folder} holds no original photograph that can be read; try data.originals=none")
    names = [path.stem for path, use in zip(paths, usable, strict=True) if use]
    records = records[usable]
    index = Index(Vocabulary(descriptors_of(records), len(records)), [records])
    return Photographs(names, records, index, digest(*keys))


def match(photographs: Photographs, paths: Sequence[Path], store: ChunkStore) -> Array:
    """Find the photograph of each image: `MATCH` records, shape (len(paths),)."""
    keys = [f"{name} {photographs.key}" for name in content_ids(paths)]

    def compute(items: slice) -> Array:
        records = extract_all(paths[items])
        pairs = [(records[i : i + 1], candidates) for i, candidates in enumerate(_candidates(photographs, records))]
        return np.concatenate(parallel(lambda pair: _best(photographs, *pair), pairs))

    return np.concatenate([np.zeros(0, MATCH), *store.results("matches", keys, compute)])


def first_of_cell(photographs: Photographs, used: Sequence[int]) -> Array:
    """Return for each photograph the first one that shows the same white cell, int (n,).

    A rigid map aligns two photographs of one place; they show the same cell if their nuclei coincide.

    Photographs that are not `used` by an image join nothing: one of two cells would join the photographs of the one
    with those of the other.
    """
    records, allowed = photographs.records, set(used)
    near = strongest(photographs.index.votes(records), NEIGHBOURS + 1)
    pairs = [(a, b) for a in sorted(allowed) for b in near[a] if b != a and b in allowed]

    def same_cell(pair: tuple[int, int]) -> bool:
        first, second = (records[[number]] for number in pair)
        return compare(first, second, OVERLAP, rigid=True)[1] is Cells.SAME

    same = np.array(pairs, int).reshape(-1, 2)[np.array(parallel(same_cell, pairs), bool)]
    graph = coo_array((np.ones(len(same)), (same[:, 0], same[:, 1])), shape=(len(records), len(records)))
    cells = connected_components(graph, directed=False)[1]
    _, first = np.unique(cells, return_index=True)
    return np.asarray(first[cells])


def _candidates(photographs: Photographs, records: Record) -> list[Array]:
    """Return the likeliest photographs of each record; numbers from n on stand for those of its mirror image."""
    votes = [photographs.index.votes(records, mirrored).toarray() for mirrored in (False, True)]
    order = np.argsort(-np.hstack(votes), axis=1, kind="stable")
    return list(order[:, : max(CANDIDATES, FEW // len(photographs.names))])


def _best(photographs: Photographs, record: Record, candidates: Array) -> Array:
    """Return the `MATCH` of one record with its best candidate."""
    result = np.zeros(1, MATCH)
    for name, _ in FILE:
        result[name] = record[name]
    result["photograph"] = -1
    mirrored, most = mirror(record), 0.0
    for candidate in candidates:
        plain, number = candidate < len(photographs.names), candidate % len(photographs.names)
        found = align(record if plain else mirrored, photographs.records[[number]])
        # All of a copy lies in its own photograph, and only a part in another photograph of the same place.
        if found.inliers >= WEAK and found.inliers * found.covered > most:
            most = found.inliers * found.covered
            result["photograph"], result["evidence"] = number, found.inliers
    return result
