"""The leak probe: a look of seconds at a split, for data whose sources nobody has determined.

The colour histogram of a thumbnail knows the slide, the light and the field, and little of the kind of cell.
Where copies of one photograph lie on both sides of a split, the training image that is nearest in colour is
such a copy, and classifies almost perfectly; without the look-alikes it cannot. That fall alone is no proof,
for colour tells something of any cell; so for some images the nearest neighbours are aligned with them, and
those that show the same cell are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bloodcell.audit.geometry import align
from bloodcell.audit.groups import LEAST, PLENTY
from bloodcell.audit.keypoints import Record, extract, mirror
from bloodcell.audit.nuclei import Cells, compare_cells
from bloodcell.audit.threads import parallel
from bloodcell.data.images import ImageError, read_image

#: Training and validation images whose colours are looked at, and validation images that are aligned with
#: their nearest neighbours: some 3 s on two cores at 320 x 240 pixels.
TRAIN_IMAGES, VAL_IMAGES, ALIGNED, NEIGHBOURS = 2000, 300, 50, 2
#: Nearest part of the training images that is taken for look-alikes: a photograph behind the Kaggle set has up
#: to 1.6 % of the images.
LOOK_ALIKE = 0.02
#: Part of the aligned validation images with a copy in training from which the probe speaks of a leak; and at
#: least two. Neighbouring crops of one field, which any set may have, are rarer.
SHARE = 0.05

_THUMBNAIL = 64  # pixels, longer side
_BINS = 8  # of a channel
_BATCH = 200  # images between two looks at the clock

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class LeakProbe:
    """What the probe saw.

    Attributes:
        train: Training images that were looked at.
        val: Validation images that were looked at.
        accuracy: Accuracy of the nearest neighbour in colour; nan where nothing could be compared.
        accuracy_unseen: The same without the look-alikes, the nearest 2 % of the training images.
        aligned: Validation images that were aligned with their nearest neighbours.
        copies: How many of them show the same cell as one of these.
        example: A validation image and its copy in training; None where there is none.
    """

    train: int
    val: int
    accuracy: float
    accuracy_unseen: float
    aligned: int
    copies: int
    example: tuple[Path, Path] | None

    @property
    def leak(self) -> bool:
        """Whether validation images have copies in training."""
        return self.copies >= max(2.0, SHARE * self.aligned)

    def message(self, part: str = "validation") -> str:
        """Return one line with the figures; `part` says which images were compared with training."""
        if not self.aligned:
            return "too few images to look for a leak"
        copies = f"{self.copies} of {self.aligned} {part} images looked at show a cell of a training image"
        nearest = f"the nearest colours name the class of {self.accuracy:.0%}"
        return f"{copies}; {nearest}, without look-alikes {self.accuracy_unseen:.0%}"


def leak_probe(
    paths_train: Sequence[Path],
    labels_train: Sequence[str],
    paths_val: Sequence[Path],
    labels_val: Sequence[str],
    seconds: float = 5.0,
) -> LeakProbe:
    """Look for copies of training images among validation images.

    The numbers of images are fixed, so that the outcome is the same each time; the clock only cuts them where
    the machine or the images are uncommonly slow.

    Args:
        paths_train: Training images.
        labels_train: Their class names.
        paths_val: Validation images.
        labels_val: Their class names.
        seconds: Time after which nothing more is begun.
    """
    end = time.monotonic() + seconds
    rng = np.random.default_rng(0)
    val = rng.permutation(len(paths_val))[:VAL_IMAGES]
    train = rng.permutation(len(paths_train))[:TRAIN_IMAGES]
    # Of the time, half is for the colours; validation first, without which the rest is worth nothing.
    val, colours_val = _colours(paths_val, val, end - seconds * 0.8)
    train, colours_train = _colours(paths_train, train, end - seconds * 0.5)
    if not len(val) or not len(train):
        return LeakProbe(len(train), len(val), float("nan"), float("nan"), 0, 0, None)
    order = np.argsort(-(colours_val @ colours_train.T), axis=1, kind="stable")
    truth, names = np.asarray(labels_val)[val], np.asarray(labels_train)[train]
    seen = float(np.mean(names[order[:, 0]] == truth))
    beyond = min(int(np.ceil(LOOK_ALIKE * len(train))), len(train) - 1)
    unseen = float(np.mean(names[order[:, beyond]] == truth))
    pairs = [
        (paths_val[v], [paths_train[t] for t in train[near[:NEIGHBOURS]]]) for v, near in zip(val, order, strict=True)
    ]
    copies, aligned = _copies(pairs[:ALIGNED], end)
    example = copies[0] if copies else None
    return LeakProbe(len(train), len(val), seen, unseen, aligned, len(copies), example)


def colour_histogram(path: Path) -> Array | None:
    """Return the colours of a thumbnail without black fill: float32 (512,), unit length; None if unreadable.

    The square roots of the shares: products of such vectors are Bhattacharyya coefficients.
    """
    try:
        picture = read_image(path)
    except ImageError:
        return None
    scale = _THUMBNAIL / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    small = small[small.max(axis=1) >= 16]
    codes = (small // (256 // _BINS)).astype(int) @ [_BINS * _BINS, _BINS, 1]
    counts = np.bincount(codes, minlength=_BINS**3).astype(np.float32)
    return np.asarray(np.sqrt(counts / max(1.0, counts.sum())))


def _colours(paths: Sequence[Path], chosen: Array, end: float) -> tuple[Array, Array]:
    """Return those of the chosen images that can be read in time, int (n,), and their colours, (n, 512)."""
    found = _in_time(lambda number: (number, colour_histogram(paths[number])), list(chosen), _BATCH, end)
    found = [(number, colours) for number, colours in found if colours is not None]
    numbers = np.array([number for number, _ in found], np.int64)
    return numbers, np.array([colours for _, colours in found], np.float32).reshape(len(found), _BINS**3)


def _copies(pairs: list[tuple[Path, list[Path]]], end: float) -> tuple[list[tuple[Path, Path]], int]:
    """Return the pairs that show the same cell, and how many images were aligned in time."""
    found = _in_time(lambda pair: [pair[0], _copy_of(*pair)], pairs, 10, end)
    return [(image, copy) for image, copy in found if copy is not None], len(found)


def _copy_of(image: Path, candidates: list[Path]) -> Path | None:
    """Return the first candidate that shows the same cell as the image."""
    record = extract(image)
    mirrored = mirror(record)
    for candidate in candidates:
        other = extract(candidate)
        if _same(record, other) or _same(mirrored, other):
            return candidate
    return None


def _same(first: Record, second: Record) -> bool:
    alignment = align(first, second)
    if alignment.inliers < LEAST:
        return False
    same = compare_cells(first["map"][0], second["map"][0], alignment.matrix) is Cells.SAME
    return same or alignment.inliers >= PLENTY


def _in_time(function: Callable[[Any], Any], items: list[Any], batch: int, end: float) -> list[Any]:
    """Return the results of the items that are begun in time, at least of one batch."""
    results: list[Any] = []
    for start in range(0, len(items), batch):
        if start and time.monotonic() > end:
            break
        results += parallel(function, items[start : start + batch])
    return results
