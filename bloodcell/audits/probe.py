"""The leak probe: in some seconds, a look for copies of training images in another split, if sources are unknown.

The colour histogram of a thumbnail shows the slide, the light and the field, and little of the kind of cell. If copies
of one photograph lie in both splits, the training image with the nearest colours is such a copy and gives the right
class almost always; without the look-alikes it does not. This drop alone is no proof, since colours tell something
about any cell. So some images are aligned with their nearest neighbours, and those that show the same cell are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bloodcell.audits.chunks import Array, parallel
from bloodcell.audits.geometry import compare
from bloodcell.audits.groups import LEAST, PLENTY
from bloodcell.audits.keypoints import extract, mirror, scaled
from bloodcell.audits.nuclei import Cells
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image

#: Training and validation images whose colours are compared, and validation images that are aligned with
#: their nearest neighbours: some 3 s on two cores at 320 x 240 pixels.
TRAIN_IMAGES, VAL_IMAGES, ALIGNED, NEIGHBOURS = 2000, 300, 50, 2
#: Share of the training images that are left out as look-alikes, the nearest: a photograph behind the Kaggle set has up
#: to 1.6 % of the images.
LOOK_ALIKE = 0.02
#: Share of the aligned images with a copy in training, at least two, from which the probe reports a leak. Any set may
#: have neighbouring crops of one field; they are rarer.
SHARE = 0.05
#: Seconds after which no work is started.
SECONDS = 5.0

_THUMBNAIL = 64  # pixels, longer side
_BINS = 8  # of a channel


@dataclass(frozen=True)
class LeakProbe:
    """The figures of the probe."""

    accuracy: float = float("nan")  # of the nearest neighbour in colour; nan if nothing could be compared
    accuracy_unseen: float = float("nan")  # the same without the look-alikes
    aligned: int = 0  # validation images that were aligned with their nearest neighbours
    copies: int = 0  # those that show the same cell as one of these

    @property
    def leak(self) -> bool:
        """Whether validation images have copies in training."""
        return self.copies >= max(2.0, SHARE * self.aligned)

    def message(self, part: str) -> str:
        """Return one line with the figures of a leak; `part` names the images that were compared with training."""
        copies = f"{self.copies} of {self.aligned} {part} images looked at show a cell of a training image"
        nearest = f"the nearest colours name the class of {self.accuracy:.0%}"
        return f"{copies}; {nearest}, without look-alikes {self.accuracy_unseen:.0%}"


def leak_probe(
    paths_train: Sequence[Path], labels_train: Sequence[str], paths_val: Sequence[Path], labels_val: Sequence[str]
) -> LeakProbe:
    """Look for copies of training images among validation images.

    The numbers of images are fixed, so the outcome is the same each time, unless machine or images are so slow that the
    time runs out. Labels are class names.
    """
    start = time.monotonic()
    rng = np.random.default_rng(0)
    val = rng.permutation(len(paths_val))[:VAL_IMAGES]
    train = rng.permutation(len(paths_train))[:TRAIN_IMAGES]
    # half of the time is for the colours; validation first, since nothing can be compared without it
    val, colours_val = _colours(paths_val, val, start + 0.2 * SECONDS)
    train, colours_train = _colours(paths_train, train, start + 0.5 * SECONDS)
    if not len(val) or not len(train):
        return LeakProbe()
    order = np.argsort(-(colours_val @ colours_train.T), axis=1, kind="stable")
    truth, names = np.asarray(labels_val)[val], np.asarray(labels_train)[train]
    beyond = min(int(np.ceil(LOOK_ALIKE * len(train))), len(train) - 1)
    seen, unseen = (float(np.mean(names[order[:, place]] == truth)) for place in (0, beyond))
    pairs = [
        (paths_val[v], [paths_train[t] for t in train[near[:NEIGHBOURS]]]) for v, near in zip(val, order, strict=True)
    ]
    copies = _in_time(start + SECONDS, lambda pair: _has_copy(*pair), pairs[:ALIGNED], batch=10)
    return LeakProbe(seen, unseen, len(copies), sum(copies))


def colour_histogram(path: Path) -> Array | None:
    """Return the colours of a thumbnail without black fill: float32 (512,), unit length; None if unreadable.

    The square roots of the shares: products of such vectors are Bhattacharyya coefficients.
    """
    try:
        picture = read_image(path)
    except ImageError:
        return None
    small = scaled(picture, _THUMBNAIL / max(picture.shape[:2]), cv2.INTER_AREA).reshape(-1, 3)
    small = small[small.max(axis=1) >= 16]
    codes = (small // (256 // _BINS)).astype(int) @ [_BINS * _BINS, _BINS, 1]
    counts = np.bincount(codes, minlength=_BINS**3).astype(np.float32)
    return np.asarray(np.sqrt(counts / max(1.0, counts.sum())))


def _colours(paths: Sequence[Path], chosen: Array, end: float) -> tuple[Array, Array]:
    """Return those of the chosen images that can be read in time, int (n,), and their colours, (n, 512)."""
    found = _in_time(end, lambda number: (number, colour_histogram(paths[number])), list(chosen), batch=200)
    found = [(number, colours) for number, colours in found if colours is not None]
    numbers = np.array([number for number, _ in found], np.int64)
    return numbers, np.array([colours for _, colours in found], np.float32).reshape(len(found), _BINS**3)


def _has_copy(image: Path, candidates: list[Path]) -> bool:
    """Return whether a candidate shows the same cell as the image."""
    record = extract(image)
    for other in map(extract, candidates):
        for side in (record, mirror(record)):
            inliers, cells = compare(side, other, LEAST)
            if cells is Cells.SAME or inliers >= PLENTY:
                return True
    return False


def _in_time(end: float, function: Callable[[Any], Any], items: Sequence[Any], batch: int) -> list[Any]:
    """Return the results of the batches of items that start in time; the first batch always does."""
    results: list[Any] = []
    for start in range(0, len(items), batch):
        if start and time.monotonic() > end:
            break
        results += parallel(function, items[start : start + batch])
    return results
