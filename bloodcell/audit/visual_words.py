"""Candidates in nearly linear time: visual words and an inverted index of images.

Descriptors are quantised by a two-level vocabulary; images that share rare words are candidates for the
geometric check. Sivic and Zisserman, Video Google, ICCV 2003; Nister and Stewenius, Scalable Recognition with
a Vocabulary Tree, CVPR 2006.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

#: Descriptors a word, on average, in the training of the vocabulary.
_SHARE = 4
#: Most branches of a level: 512 x 512 words, some 100 entries each for 100,000 images.
_BRANCHES = 512
#: Longest posting list that is kept. Caps the cost of words that every image has, so that the whole grows
#: linearly; of a longer list every image still finds some entries.
_POSTINGS = 400

Array = np.ndarray[Any, np.dtype[Any]]


class Vocabulary:
    """Two levels of k-means centres.

    Args:
        descriptors: Training sample, float32 (n, 128).
        images: Images that will be indexed; decides the number of words.
        seed: Seed of the initial centres.
    """

    def __init__(self, descriptors: Array, images: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        words = min(images * 4, len(descriptors) // _SHARE * 2)
        self.branches = int(np.clip(np.sqrt(words), 2, _BRANCHES))
        sample = descriptors[rng.permutation(len(descriptors))[: 100 * self.branches]]
        self.coarse = _centres(sample, self.branches, rng)
        nearest = _nearest(descriptors, self.coarse)
        order = np.argsort(nearest, kind="stable")
        bounds = np.searchsorted(nearest[order], np.arange(len(self.coarse) + 1))
        self.fine = [
            _centres(descriptors[order[a:b]], min(self.branches, max(1, (b - a) // 2)), rng)
            for a, b in pairwise(bounds)
        ]
        self.size = len(self.coarse) * self.branches

    def words(self, descriptors: Array) -> Array:
        """Return the word of each descriptor, float32 (n, 128): int32 (n,), 0 to size - 1."""
        coarse = _nearest(descriptors, self.coarse)
        order = np.argsort(coarse, kind="stable")
        bounds = np.searchsorted(coarse[order], np.arange(len(self.coarse) + 1))
        words = np.zeros(len(descriptors), np.int32)
        for branch, (a, b) in enumerate(pairwise(bounds)):
            if b > a:
                inside = _nearest(descriptors[order[a:b]], self.fine[branch])
                words[order[a:b]] = branch * self.branches + inside
        return words


class Index:
    """An inverted index: which images have which words.

    Args:
        counts: Words of each image, int (n,).
        words: The words of all images, one image after the other.
        size: Number of words in the vocabulary.
        seed: Seed of the thinning of very long lists.
    """

    def __init__(self, counts: Array, words: Array, size: int, seed: int = 0) -> None:
        table = _table(counts, words, size)
        frequency = np.bincount(table.indices, minlength=size)
        self.images = table.shape[0]
        idf = np.log((1 + self.images) / np.maximum(frequency, 1)).astype(np.float32)
        rank = np.random.default_rng(seed).random(len(table.indices), dtype=np.float32)
        kept = rank <= (_POSTINGS / np.maximum(frequency, 1))[table.indices]
        rows = np.repeat(np.arange(self.images), np.diff(table.indptr))
        norm = np.sqrt(np.maximum(np.bincount(rows, idf[table.indices], minlength=self.images), 1))
        weights = (idf[table.indices] / norm[rows])[kept].astype(np.float32)
        entries = (weights, (table.indices[kept], rows[kept]))
        self.postings = sparse.csr_matrix(entries, shape=(size, self.images))

    def votes(self, counts: Array, words: Array) -> sparse.csr_matrix:
        """Return the votes of the indexed images for each query: sparse float32 (queries, images)."""
        return _table(counts, words, self.postings.shape[0]) @ self.postings


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


def _table(counts: Array, words: Array, size: int) -> sparse.csr_matrix:
    """Return which query has which word, once each: sparse float32 0/1 (queries, words)."""
    rows = np.repeat(np.arange(len(counts)), counts)
    entries = (np.ones(len(words), np.float32), (rows, words))
    table = sparse.csr_matrix(entries, shape=(len(counts), size))
    table.sum_duplicates()
    table.data[:] = 1
    return table


def _centres(points: Array, number: int, rng: np.random.Generator, rounds: int = 5) -> Array:
    """Return `number` centres of points, float32 (n, 128), by Lloyd's algorithm from random points."""
    if len(points) == 0:
        return np.zeros((1, points.shape[1]), np.float32)
    centres = points[rng.permutation(len(points))[:number]].copy()
    for _ in range(rounds if len(centres) > 1 else 0):
        nearest = _nearest(points, centres)
        shape = (len(centres), len(points))
        members = sparse.csr_matrix((np.ones(len(points), np.float32), (nearest, np.arange(len(points)))), shape)
        size = np.bincount(nearest, minlength=len(centres))[:, None]
        centres = np.where(size > 0, members @ points / np.maximum(size, 1), centres).astype(np.float32)
    return centres


def _nearest(points: Array, centres: Array, block: int = 20_000) -> Array:
    """Return the index of the nearest centre of each point: int (n,)."""
    half = (centres * centres).sum(axis=1) / 2
    parts = [
        (points[start : start + block] @ centres.T - half).argmax(axis=1) for start in range(0, len(points), block)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
