"""Candidate pairs in nearly linear time: visual words and an inverted index of images.

Descriptors are quantised by a two-level vocabulary; images that share rare words are candidates for the
geometric check. Sivic and Zisserman, Video Google, ICCV 2003; Nister and Stewenius, Scalable Recognition with
a Vocabulary Tree, CVPR 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from bloodcell.audits.chunks import Array
from bloodcell.audits.keypoints import Record, descriptors_of

#: Training descriptors for each word of the vocabulary, on average.
_SHARE = 4
#: Most branches of a level: 512 x 512 words, some 100 entries each for 100,000 images.
_BRANCHES = 512
#: Longest posting list that is kept. It limits the cost of words that every image has, so that the total grows
#: linearly; every image keeps some entries of a longer list.
_POSTINGS = 400


class Vocabulary:
    """Two levels of k-means centres of a training sample of descriptors, float32 (n, 128).

    The number of images to index decides the number of words.
    """

    def __init__(self, descriptors: Array, images: int) -> None:
        rng = np.random.default_rng(0)
        words = min(images * 4, len(descriptors) // _SHARE * 2)
        self.branches = int(np.clip(np.sqrt(words), 2, _BRANCHES))
        sample = descriptors[rng.permutation(len(descriptors))[: 100 * self.branches]]
        self.coarse = _centres(sample, self.branches, rng)
        self.fine = [
            _centres(descriptors[part], min(self.branches, max(1, len(part) // 2)), rng)
            for part in self._branches_of(descriptors)
        ]
        self.size = len(self.coarse) * self.branches

    def words(self, descriptors: Array) -> Array:
        """Return the word of each descriptor, float32 (n, 128): int32 (n,), 0 to size - 1."""
        words = np.zeros(len(descriptors), np.int32)
        for branch, part in enumerate(self._branches_of(descriptors)):
            words[part] = branch * self.branches + _nearest(descriptors[part], self.fine[branch])
        return words

    def _branches_of(self, descriptors: Array) -> list[Array]:
        """Return the indices of the descriptors in each branch, ascending."""
        nearest = _nearest(descriptors, self.coarse)
        order = np.argsort(nearest, kind="stable")
        return np.split(order, np.searchsorted(nearest[order], np.arange(1, len(self.coarse))))


class Index:
    """An inverted index: which images, whose records are given in chunks, have which words."""

    def __init__(self, vocabulary: Vocabulary, chunks: Sequence[Record]) -> None:
        self.vocabulary = vocabulary
        table = self._words(chunks)
        images, size = table.shape
        frequency = np.bincount(table.indices, minlength=size)
        idf = np.log((1 + images) / np.maximum(frequency, 1)).astype(np.float32)
        rank = np.random.default_rng(0).random(len(table.indices), dtype=np.float32)
        kept = rank <= (_POSTINGS / np.maximum(frequency, 1))[table.indices]
        rows = np.repeat(np.arange(images), np.diff(table.indptr))
        norm = np.sqrt(np.maximum(np.bincount(rows, idf[table.indices], minlength=images), 1))
        weights = (idf[table.indices] / norm[rows])[kept].astype(np.float32)
        entries = (weights, (table.indices[kept], rows[kept]))
        self.postings = sparse.csr_matrix(entries, shape=(size, images))

    def votes(self, records: Record, mirrored: bool = False) -> sparse.csr_matrix:
        """Return the votes of the indexed images for each record or its mirror image: sparse float32 (n, images)."""
        return self._words([records], mirrored) @ self.postings

    def _words(self, chunks: Sequence[Record], mirrored: bool = False) -> sparse.csr_matrix:
        """Return which image has which word, once each: sparse float32 0/1 (images, words)."""
        counts = np.concatenate([np.zeros(0, np.int32), *[chunk["count"] for chunk in chunks]])
        words = [self.vocabulary.words(descriptors_of(chunk, mirrored)) for chunk in chunks]
        columns = np.concatenate([np.zeros(0, np.int32), *words])
        entries = (np.ones(len(columns), np.float32), (np.repeat(np.arange(len(counts)), counts), columns))
        table = sparse.csr_matrix(entries, shape=(len(counts), self.vocabulary.size))
        table.data[:] = 1
        return table


def strongest(votes: sparse.csr_matrix, number: int) -> list[Array]:
    """Return, for each query, the columns with the most votes, best first: int (up to `number`,)."""
    best = []
    for a, b in zip(votes.indptr[:-1], votes.indptr[1:], strict=True):
        columns, values = votes.indices[a:b], votes.data[a:b]
        if len(values) > number:
            part = np.argpartition(-values, number)[:number]
            columns, values = columns[part], values[part]
        best.append(columns[np.lexsort((columns, -values))])
    return best


def _centres(points: Array, number: int, rng: np.random.Generator) -> Array:
    """Return `number` centres of points, float32 (n, 128), by Lloyd's algorithm from random points."""
    if len(points) == 0:
        return np.zeros((1, points.shape[1]), np.float32)
    centres = points[rng.permutation(len(points))[:number]].copy()
    for _ in range(5 if len(centres) > 1 else 0):
        nearest = _nearest(points, centres)
        shape = (len(centres), len(points))
        members = sparse.csr_matrix((np.ones(len(points), np.float32), (nearest, np.arange(len(points)))), shape)
        size = np.bincount(nearest, minlength=len(centres))[:, None]
        centres = np.where(size > 0, members @ points / np.maximum(size, 1), centres).astype(np.float32)
    return centres


def _nearest(points: Array, centres: Array) -> Array:
    """Return the index of the nearest centre of each point: int (n,)."""
    half = (centres * centres).sum(axis=1) / 2
    blocks = [points[start : start + 20_000] for start in range(0, len(points), 20_000)]
    parts = [(block @ centres.T - half).argmax(axis=1) for block in blocks]
    return np.concatenate([np.zeros(0, np.int64), *parts])
