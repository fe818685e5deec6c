"""Provenance without the original photographs: which images show the same white cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from bloodcell.audit import unfinished
from bloodcell.audit.clusters import agreeing_components
from bloodcell.audit.geometry import align
from bloodcell.audit.keypoints import RECORD, Record, extract, mirror, mirrored_descriptors, root_sift
from bloodcell.audit.nuclei import Cells, compare_cells
from bloodcell.audit.originals import all_descriptors
from bloodcell.audit.threads import parallel
from bloodcell.audit.visual_words import Index, Vocabulary, strongest
from bloodcell.data.samples import identities

#: Candidates that are compared with each image, mirror images included.
CANDIDATES = 10
#: Members that look for neighbours outside their group in the second round.
SCOUTS = 6
#: Inliers that count at all, where the nuclei coincide. Null: pairs of independent cells of other slides have
#: at most 8.
LEAST = 10
#: Inliers that count whatever the nuclei say. Null: neighbouring fields that share red cells but no white cell
#: have at most 27 and two copies of one photograph 60 and more; with that many, a nucleus that seems to be
#: missing was not recognised.
PLENTY = 40
#: Inliers that are beyond doubt.
CERTAIN = 60
#: Images whose descriptors train the vocabulary.
TRAINING = 2000

#: A verified pair of images.
EDGE = np.dtype([("first", np.int32), ("second", np.int32), ("inliers", np.int32), ("cells", np.int8)])
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Groups:
    """The outcome of grouping.

    Attributes:
        labels: Group of each image, int (n,), numbered from 0.
        evidence: Most inliers of each image with another of its group, int (n,); 0 where it is alone.
        edges: All verified pairs, `EDGE` records.
        reasons: Why an image cannot be read, (n,); empty if it can.
        file_hashes: Of the bytes, uint64 (n,).
        pixel_hashes: Of the decoded pictures, uint64 (n,).
    """

    labels: Array
    evidence: Array
    edges: Array
    reasons: Array
    file_hashes: Array
    pixel_hashes: Array


class Gallery:
    """The records of all images, on disk, and their inverted index, in memory.

    Args:
        paths: The images.
        kept: Folder of the state.
        progress: Told the images done.
    """

    def __init__(self, paths: Sequence[Path], kept: Path, progress: unfinished.Progress) -> None:
        keys = identities(paths)

        def compute(items: range) -> Record:
            return np.concatenate(parallel(extract, [paths[item] for item in items]))

        self.chunks = list(unfinished.chunks(kept, "features", keys, compute, progress, "key points"))
        self.key = unfinished.digest(*keys)
        self.counts = self.column("count")
        self.vocabulary = self._train()
        words = [self._words(chunk, mirrored=False) for chunk in self.chunks]
        everything = np.concatenate([np.zeros(0, np.int32), *words])
        self.index = Index(self.counts, everything, self.vocabulary.size)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, image: int) -> Record:
        return np.asarray(self.chunks[image // unfinished.CHUNK][image % unfinished.CHUNK :][:1])

    def column(self, name: str) -> Array:
        """Return one field of all records, (n, ...)."""
        return np.concatenate([np.zeros(0, RECORD)[name], *[chunk[name] for chunk in self.chunks]])

    def votes(self, images: Array) -> sparse.csr_matrix:
        """Return the votes for all images and, from column n on, for all images as mirrored queries."""
        records = np.concatenate([self[image] for image in images])
        parts = [self.index.votes(records["count"], self._words(records, m)) for m in (False, True)]
        return sparse.hstack(parts, format="csr")

    def _train(self) -> Vocabulary:
        chosen = np.unique(np.linspace(0, len(self) - 1, min(len(self), TRAINING)).astype(int))
        sample = [self[image]["descriptors"][0, : self.counts[image]] for image in chosen]
        descriptors = np.concatenate([np.zeros((1, 128), np.uint8), *sample])
        return Vocabulary(root_sift(descriptors), len(self))

    def _words(self, records: Record, mirrored: bool) -> Array:
        descriptors = all_descriptors(records)
        return self.vocabulary.words(root_sift(mirrored_descriptors(descriptors) if mirrored else descriptors))


def group(paths: Sequence[Path], kept: Path, progress: unfinished.Progress) -> Groups:
    """Group images that show the same white cell.

    Round one compares each image with its likeliest partners. A group of many copies can hold all partners
    of its members, so in round two some members of each group look for partners outside it.

    Args:
        paths: The images.
        kept: Folder of the state.
        progress: Told the images done in each phase.
    """
    gallery = Gallery(paths, kept, progress)
    everyone = np.arange(len(gallery))
    edges = _compare(gallery, everyone, None, kept, progress, "comparing images")
    labels = components(len(gallery), edges)
    scouts = _scouts(labels)
    edges = np.concatenate([edges, _compare(gallery, scouts, labels, kept, progress, "comparing groups")])
    labels = components(len(gallery), edges)
    evidence = np.zeros(len(gallery), np.int32)
    inside = edges[labels[edges["first"]] == labels[edges["second"]]]
    for end in ("first", "second"):
        np.maximum.at(evidence, inside[end], inside["inliers"])
    columns = [gallery.column(name) for name in ("reason", "file_hash", "pixel_hash")]
    return Groups(labels, evidence, edges, *columns)


def components(images: int, edges: Array) -> Array:
    """Return the group of each image, int (n,), from verified pairs."""
    neighbours = edges["cells"] == Cells.NEIGHBOURS
    supports = (edges["cells"] == Cells.SAME) | ((edges["inliers"] >= PLENTY) & ~neighbours)
    opposes = neighbours | ((edges["cells"] == Cells.DIFFERENT) & ~supports)
    used = (supports | opposes) & (edges["inliers"] >= LEAST)
    kept, supports = edges[used], supports[used]
    return agreeing_components(images, kept["first"], kept["second"], kept["inliers"], supports, CERTAIN)


def _compare(
    gallery: Gallery, images: Array, labels: Array | None, kept: Path, progress: unfinished.Progress, phase: str
) -> Array:
    """Verify the likeliest partners of some images, outside their own groups if labels are given."""
    context = unfinished.digest(gallery.key, None if labels is None else labels.tolist())
    keys = [f"{context} {image}" for image in images]

    def compute(items: range) -> Array:
        queries = images[items.start : items.stop]
        votes = gallery.votes(queries)
        for row, image in enumerate(queries):
            span = slice(votes.indptr[row], votes.indptr[row + 1])
            others = votes.indices[span] % len(gallery)
            own = others == image if labels is None else labels[others] == labels[image]
            votes.data[span][own] = 0
        pairs = list(zip(queries, strongest(votes, CANDIDATES), strict=True))
        return np.concatenate(parallel(lambda pair: _verify(gallery, *pair), pairs))

    return np.concatenate([np.zeros(0, EDGE), *unfinished.chunks(kept, "edges", keys, compute, progress, phase)])


def _verify(gallery: Gallery, image: int, candidates: Array) -> Array:
    """Return the edges, `EDGE` records, from an image to those candidates that align with it."""
    record = gallery[image]
    mirrored = mirror(record)
    rows = []
    for candidate in candidates:
        query, other = (record if candidate < len(gallery) else mirrored), int(candidate % len(gallery))
        if other == image:
            continue
        partner = gallery[other]
        alignment = align(query, partner)
        if alignment.inliers >= LEAST // 2:
            cells = compare_cells(query["map"][0], partner["map"][0], alignment.matrix)
            rows.append((image, other, alignment.inliers, cells))
    return np.array(rows, EDGE)


def _scouts(labels: Array) -> Array:
    """Return up to `SCOUTS` members of each group of two and more, evenly spread: int, ascending."""
    order = np.argsort(labels, kind="stable")
    scouts = [
        members[np.unique(np.linspace(0, len(members) - 1, SCOUTS).astype(int))]
        for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        if len(members) > 1
    ]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *scouts]))
