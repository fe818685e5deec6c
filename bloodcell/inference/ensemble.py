"""One classifier or several as one: the mean of their probabilities, over a stream of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.data.decoder import batches, overlapped
from bloodcell.data.images import ImageError
from bloodcell.data.preprocessing import picture_of
from bloodcell.inference.engine import Engine, Pass, Prediction
from bloodcell.inference.tta import symmetries
from bloodcell.runtime.hardware import decoders

Array = np.ndarray[Any, np.dtype[Any]]
#: One image: a file, an RGB array uint8 (H, W, 3), or a Pillow image.
ImageLike = Any
Square = tuple[int, int, int]

#: Images that a thread decodes before they pass the nets.
GROUP = 64


@dataclass(frozen=True)
class Decoded:
    """Images as they were read.

    Attributes:
        given: All that were to be read.
        images: Those that can be, N.
        bad: The others, each with the reason.
        taken: Of each of the N and for each preprocessing the pixels, uint8 (size, size, 3), and the square that they
            show; see `Preprocessing.taken`.
    """

    given: list[ImageLike]
    images: list[ImageLike]
    bad: list[tuple[ImageLike, str]]
    taken: list[tuple[tuple[Array, Square | None], ...]]


@dataclass(frozen=True)
class Group:
    """What is predicted of some images.

    Attributes:
        given: All that were to be read.
        images: Those that can be, N.
        bad: The others, each with the reason.
        probabilities: The mean over the members, float64 (N, C).
        members: The prediction of each member, its classes in the order of the ensemble's.
        cells: For each image whether its cell was found: found, none, or '' if no member looks for it.
        squares: Left, top and side, in pixels of the upright image, of the square around the cell; None: there is none.
        unlike: bool (N,): most members call the image out-of-distribution; None: one of them cannot tell.
    """

    given: list[ImageLike]
    images: list[ImageLike]
    bad: list[tuple[ImageLike, str]]
    probabilities: Array
    members: list[Prediction]
    cells: list[str]
    squares: list[Square | None]
    unlike: Array | None


class Ensemble:
    """One classifier, or several that share the decoding of each image.

    Args:
        engines: The members, of the same classes in any order.
        tta: none, flips or d4: the symmetries of each image over which the probabilities are averaged.

    Attributes:
        classes: In the order of the probabilities.
    """

    def __init__(self, engines: list[Engine], tta: str = "none") -> None:
        self.engines, self.symmetries = engines, symmetries(tta)
        self.classes = list(engines[0].classes)
        self.preprocessings = list(dict.fromkeys(engine.preprocessing for engine in engines))

    def predict(self, groups: Iterable[list[ImageLike]], count: int, threads: int | None = None) -> Iterator[Group]:
        """Predict groups of images, in order; images are decoded in threads, some groups ahead of the nets.

        Args:
            groups: Of one image or more each; taken as they are needed.
            count: How many images pass the nets in all, by which the fastest way is chosen.
            threads: That decode; None: one a core.
        """
        ways = self.passes(count)

        def compute(decoded: Decoded) -> Group:
            return self._predicted(decoded, ways)

        streams = min(way.streams for way in ways)
        yield from overlapped(self._decoded, compute, groups, decoders(threads), streams)

    def passes(self, count: int) -> list[Pass]:
        """Return the fastest way of a number of images through each net; what has to be built is built here."""
        return [engine.passes(count) for engine in self.engines]

    def _decoded(self, items: list[ImageLike]) -> Decoded:
        """Decode images, each once for all members."""
        taken: list[tuple[tuple[Array, Square | None], ...]] = []
        images, bad = [], []

        def readable() -> Iterator[Array]:
            for item in items:
                try:
                    picture = picture_of(item)
                except ImageError as error:
                    bad.append((item, str(error)))
                else:
                    images.append(item)
                    yield picture
                    del picture  # before the next one takes memory

        for pictures in batches(readable()):
            taken += zip(*(preprocessing.taken(pictures) for preprocessing in self.preprocessings), strict=True)
            del pictures[:]
        return Decoded(items, images, bad, taken)

    def _predicted(self, decoded: Decoded, ways: list[Pass]) -> Group:
        # all that look for the cell see the same
        looking = next((i for i, one in enumerate(self.preprocessings) if one.localises), 0)
        squares = [each[looking][1] for each in decoded.taken]
        cells = [self.preprocessings[looking].word(square) for square in squares]
        members = [self._member(engine, decoded, way) for engine, way in zip(self.engines, ways, strict=True)]
        mean = np.mean([one.probabilities for one in members], axis=0)
        read = decoded.given, decoded.images, decoded.bad
        return Group(*read, mean, members, cells, squares, _most([one.unlike for one in members]))

    def _member(self, engine: Engine, decoded: Decoded, way: Pass) -> Prediction:
        """Return one member's prediction, its classes in the ensemble's order."""
        if not decoded.taken:
            nothing = np.empty((0, len(self.classes)))
            return Prediction(nothing, nothing, None if engine.limits is None else np.empty(0, bool))
        number = self.preprocessings.index(engine.preprocessing)
        found = engine.predict(np.stack([each[number][0] for each in decoded.taken]), way, self.symmetries)
        order = [engine.classes.index(name) for name in self.classes]
        return Prediction(found.probabilities[:, order], found.plain[:, order], found.unlike)


def _most(unlike: list[Array | None]) -> Array | None:
    """Return which images most members call out-of-distribution; None if one of them cannot tell."""
    known = [one for one in unlike if one is not None]
    return np.mean(known, axis=0) > 0.5 if len(known) == len(unlike) else None
