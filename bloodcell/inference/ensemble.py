"""The mean of the probabilities of one classifier or several, over a stream of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from bloodcell.data.blank import blank
from bloodcell.data.decoder import image_batches, read_and_compute
from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import as_array
from bloodcell.inference.engine import NOT_FINITE, Engine, Pass, Prediction
from bloodcell.inference.tta import as_trained, symmetries
from bloodcell.runtime.hardware import decoders

Array = np.ndarray[Any, np.dtype[Any]]
#: One image: a file, an RGB array uint8 (H, W, 3), or a Pillow image.
ImageLike = Any
Square = tuple[int, int, int]
#: An image's pixels, uint8 (size, size, 3), and the square that they show, for each preprocessing.
Views = tuple[tuple[Array, Square | None], ...]
#: The images of a group, those that can be read, the bad ones with reasons, and the views of those that can be read.
Decoded = tuple[list[ImageLike], list[ImageLike], list[tuple[ImageLike, str]], list[Views]]

#: Number of images that a thread decodes before they pass the nets.
GROUP = 64


@dataclass(frozen=True)
class Group:
    """Predictions of some images.

    Attributes:
        given: All images of the group.
        images: The N that can be read and have an answer.
        bad: The others, each with the reason.
        probabilities: The mean over the members, float64 (N, C).
        members: Each member's prediction, its classes in the order of the ensemble's.
        cells: Each image's cell: found, none, or '' if no member looks for it.
        squares: Left, top and side of the square around the cell, pixels of the upright image; None: there is none.
        blanks: black, white or constant for each image that shows nothing, else ''.
        unlike: bool (N,): most members call the image out-of-distribution; None: one of them cannot tell.
    """

    given: list[ImageLike]
    images: list[ImageLike]
    bad: list[tuple[ImageLike, str]]
    probabilities: Array
    members: list[Prediction]
    cells: list[str]
    squares: list[Square | None]
    blanks: list[str]
    unlike: Array | None


class Ensemble:
    """One classifier, or several of the same classes in any order, that share the decoding of each image.

    `tta`, none, flips or d4, names the symmetries to average over, None those of the training; probabilities are in
    the order of `classes`.
    """

    def __init__(self, engines: list[Engine], tta: str | None = None) -> None:
        self.tta = as_trained(tta, [engine.tta for engine in engines])
        self.engines, self.symmetries = engines, symmetries(self.tta)
        self.classes = list(engines[0].classes)
        self.preprocessings = list(dict.fromkeys(engine.preprocessing for engine in engines))
        self.white = max((one.white for one in self.preprocessings if one.white), default=None)

    def predict(self, groups: Iterable[list[ImageLike]], count: int, threads: int | None = None) -> Iterator[Group]:
        """Predict groups of one image or more, read lazily, in order; threads decode some groups ahead of the nets.

        The fastest pass for `count` images in all is taken; threads None: one per core.
        """
        ways = self.passes(count)
        streams = min(way.streams for way in ways)
        compute = partial(self._predicted, ways=ways)
        yield from read_and_compute(self._decoded, compute, groups, decoders(threads), streams)

    def passes(self, count: int) -> list[Pass]:
        """Return each net's fastest pass for a number of images, built."""
        return [engine.passes(count) for engine in self.engines]

    def _decoded(self, items: list[ImageLike]) -> Decoded:
        taken: list[Views] = []
        images, bad = [], []

        def readable() -> Iterator[Array]:
            for item in items:
                try:
                    picture = as_array(item, self.white)
                except ImageError as error:
                    bad.append((item, str(error)))
                else:
                    images.append(item)
                    yield picture
                    del picture  # before the next one takes memory

        for pictures in image_batches(readable()):
            taken += zip(*(preprocessing.prepare(pictures) for preprocessing in self.preprocessings), strict=True)
            del pictures[:]
        return items, images, bad, taken

    def _predicted(self, decoded: Decoded, ways: list[Pass]) -> Group:
        given, images, bad, taken = decoded
        members = [self._member(engine, taken, way) for engine, way in zip(self.engines, ways, strict=True)]
        answered = np.logical_and.reduce([one.finite for one in members])
        if not answered.all():
            bad += [(image, NOT_FINITE) for image, has in zip(images, answered, strict=True) if not has]
            images, taken = (list(compress(each, answered)) for each in (images, taken))
            members = [one.chosen(answered) for one in members]
        # all that look for the cell see the same
        looking = next((i for i, one in enumerate(self.preprocessings) if one.crops_cell), 0)
        squares = [each[looking][1] for each in taken]
        cells = [self.preprocessings[looking].cell_status(square) for square in squares]
        mean = np.mean([one.probabilities for one in members], axis=0)
        blanks = [blank(each[0][0]) for each in taken]
        return Group(given, images, bad, mean, members, cells, squares, blanks, _most([one.unlike for one in members]))

    def _member(self, engine: Engine, taken: list[Views], way: Pass) -> Prediction:
        if not taken:
            nothing = np.empty((0, len(self.classes)))
            return Prediction(nothing, nothing, None if engine.limits is None else np.empty(0, bool))
        number = self.preprocessings.index(engine.preprocessing)
        found = engine.predict(np.stack([each[number][0] for each in taken]), way, self.symmetries)
        order = [engine.classes.index(name) for name in self.classes]
        return Prediction(found.probabilities[:, order], found.plain[:, order], found.unlike)


def _most(unlike: list[Array | None]) -> Array | None:
    known = [one for one in unlike if one is not None]
    return np.mean(known, axis=0) > 0.5 if len(known) == len(unlike) else None
