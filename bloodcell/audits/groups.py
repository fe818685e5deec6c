"""Sources without the original photographs: which images show the same white cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from bloodcell.audits import chunks
from bloodcell.audits.chunks import Array, ChunkStore, digest, parallel
from bloodcell.audits.clusters import agreeing_components
from bloodcell.audits.geometry import compare
from bloodcell.audits.keypoints import FILE, RECORD, Record, descriptors_of, extract_all, mirror
from bloodcell.audits.nuclei import Cells
from bloodcell.audits.visual_words import Index, Vocabulary, strongest
from bloodcell.data.content import content_ids

#: Candidates that are compared with each image, mirror images included.
CANDIDATES = 10
#: Members of each group that are compared with images outside it in the second round.
REPRESENTATIVES = 6
#: Fewest inliers of a pair whose nuclei coincide. Null: pairs of independent cells of other slides have at most 8.
LEAST = 10
#: Inliers that are enough unless the images are neighbouring crops. Null: neighbouring fields that share red cells but
#: no white cell have at most 27, two copies of one photograph 60 and more; with so many inliers, a nucleus that seems
#: to be missing was not recognised.
PLENTY = 40
#: Inliers that are beyond doubt.
CERTAIN = 60
#: Images whose descriptors train the vocabulary.
TRAINING = 2000

#: A verified pair of images.
EDGE = np.dtype([("first", np.int32), ("second", np.int32), ("inliers", np.int32), ("cells", np.int8)])


class IndexedImages:
    """The records of image files, on disk, and their inverted index, in memory."""

    def __init__(self, paths: Sequence[Path], store: ChunkStore) -> None:
        keys = content_ids(paths)
        self.chunks = list(store.results("features", keys, lambda items: extract_all(paths[items])))
        self.key = digest(*keys)
        self.count = len(paths)
        chosen = np.unique(np.linspace(0, self.count - 1, min(self.count, TRAINING)).astype(int))
        sample = np.concatenate([np.zeros((1, 128), np.float32), descriptors_of(self.records(chosen))])
        self.index = Index(Vocabulary(sample, self.count), self.chunks)

    def records(self, images: Array) -> Record:
        """Return the records of some images, shape (n,)."""
        parts = [self.chunks[image // chunks.CHUNK][image % chunks.CHUNK :][:1] for image in images]
        return np.concatenate([np.zeros(0, RECORD), *parts])


def group(paths: Sequence[Path], store: ChunkStore) -> pd.DataFrame:
    """Group image files that show the same white cell.

    Round one compares each image with its likeliest partners. They may all be copies in its own group, so round two
    compares some members of each group with images outside it.

    Returns:
        A row for each image: group (numbered from 0), evidence (most inliers with another image of the group, 0 if it
        is alone), reason (why it cannot be read, empty if it can), file_hash and pixel_hash.
    """
    images = IndexedImages(paths, store)
    everyone = np.arange(images.count)
    edges = _compare(images, everyone, everyone, store)
    labels = components(images.count, edges)
    edges = np.concatenate([edges, _compare(images, _representatives(labels), labels, store)])
    labels = components(images.count, edges)
    evidence = np.zeros(images.count, np.int32)
    inside = edges[labels[edges["first"]] == labels[edges["second"]]]
    for end in ("first", "second"):
        np.maximum.at(evidence, inside[end], inside["inliers"])
    files = np.concatenate([np.zeros(0, FILE), *[chunk[[name for name, _ in FILE]] for chunk in images.chunks]])
    return pd.DataFrame({"group": labels, "evidence": evidence, **{name: files[name] for name, _ in FILE}})


def components(images: int, edges: Array) -> Array:
    """Return the group of each image, int (images,), from verified pairs, `EDGE` records."""
    neighbours = edges["cells"] == Cells.NEIGHBOURS
    supports = (edges["cells"] == Cells.SAME) | ((edges["inliers"] >= PLENTY) & ~neighbours)
    opposes = neighbours | ((edges["cells"] == Cells.DIFFERENT) & ~supports)
    used = (supports | opposes) & (edges["inliers"] >= LEAST)
    kept, supports = edges[used], supports[used]
    return agreeing_components(images, kept["first"], kept["second"], kept["inliers"], supports, CERTAIN)


def _compare(images: IndexedImages, queries: Array, labels: Array, store: ChunkStore) -> Array:
    """Verify the likeliest partners of some images outside their own groups: `EDGE` records."""
    context = digest(images.key, labels.tolist())
    keys = [f"{context} {image}" for image in queries]

    def compute(items: slice) -> Array:
        chosen = queries[items]
        records = images.records(chosen)
        # from column n on: of all images as mirrored queries
        votes = sparse.hstack([images.index.votes(records, side) for side in (False, True)], format="csr")
        for row, image in enumerate(chosen):
            span = slice(votes.indptr[row], votes.indptr[row + 1])
            votes.data[span][labels[votes.indices[span] % images.count] == labels[image]] = 0
        pairs = zip(chosen, strongest(votes, CANDIDATES), strict=True)
        return np.concatenate(parallel(lambda pair: _verify(images, *pair), pairs))

    return np.concatenate([np.zeros(0, EDGE), *store.results("edges", keys, compute)])


def _verify(images: IndexedImages, image: int, candidates: Array) -> Array:
    """Return the edges, `EDGE` records, from an image to those candidates that align with it."""
    record = images.records(np.array([image]))
    mirrored = mirror(record)
    rows = []
    for candidate in candidates:
        query, other = (record if candidate < images.count else mirrored), int(candidate % images.count)
        if other == image:
            continue
        inliers, cells = compare(query, images.records(np.array([other])), LEAST // 2)
        if inliers:
            rows.append((image, other, inliers, cells))
    return np.array(rows, EDGE)


def _representatives(labels: Array) -> Array:
    """Return up to `REPRESENTATIVES` members of each group of two and more, evenly spread: int, ascending."""
    groups = [members for members in pd.Series(labels).groupby(labels).indices.values() if len(members) > 1]
    chosen = [group[np.unique(np.linspace(0, len(group) - 1, REPRESENTATIVES).astype(int))] for group in groups]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
