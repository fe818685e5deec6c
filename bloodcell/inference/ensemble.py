"""Several classifiers as one: the mean of their probabilities, over as many images as there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.data.decoder import batches, overlapped
from bloodcell.data.images import ImageError
from bloodcell.data.preprocessing import picture_of
from bloodcell.inference.engine import Engine, Judged, Pass
from bloodcell.inference.tta import symmetries
from bloodcell.runtime.hardware import decoders

Array = np.ndarray[Any, np.dtype[Any]]
#: One image: a file, an RGB array uint8 (H, W, 3), or a Pillow image.
ImageLike = Any
Square = tuple[int, int, int]

#: Images that a thread decodes before they pass the nets in turn.
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
    """What is made of some images.

    Attributes:
        given: All that were to be read.
        images: Those that can be, N.
        bad: The others, each with the reason.
        probabilities: float64 (N, C).
        cells: Of each image whether its cell was found: found, none, or '' where no classifier looks for it.
        squares: Left, top and side, in pixels of the upright image, of the square around the cell; None: there is none.
        unlike: bool (N,): most classifiers find the image unlike their training data; None where one cannot tell.
    """

    given: list[ImageLike]
    images: list[ImageLike]
    bad: list[tuple[ImageLike, str]]
    probabilities: Array
    cells: list[str]
    squares: list[Square | None]
    unlike: Array | None


class Jury:
    """One classifier, or several of which each image is decoded but once.

    Args:
        engines: The classifiers, of the same classes in any order.
        tta: none, flips or d4: the symmetries of each image over which the probabilities are averaged.

    Attributes:
        classes: In the order of the probabilities.
    """

    def __init__(self, engines: list[Engine], tta: str = "none") -> None:
        self.engines, self.symmetries = engines, symmetries(tta)
        self.classes = list(engines[0].classes)
        self.preprocessings = list(dict.fromkeys(engine.preprocessing for engine in engines))

    def judge(self, groups: Iterable[list[ImageLike]], count: int, threads: int | None = None) -> Iterator[Group]:
        """Judge groups of images, in order; images are decoded in threads, some groups ahead of the nets.

        Args:
            groups: Of one image or more each; taken as they are needed.
            count: How many images there are in all, by which the fastest way through the nets is chosen.
            threads: That decode; None: as the machine has cores.
        """
        ways = self.passes(count)

        def compute(decoded: Decoded) -> Group:
            return self._judged(decoded, ways)

        streams = min(way.streams for way in ways)
        yield from overlapped(self._decoded, compute, groups, decoders(threads), streams)

    def passes(self, count: int) -> list[Pass]:
        """Return the fastest way of so many images through each net; what has to be built is built here."""
        return [engine.passes(count) for engine in self.engines]

    def _decoded(self, items: list[ImageLike]) -> Decoded:
        """Decode images, each but once whatever many nets are to see it."""
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

    def _judged(self, decoded: Decoded, ways: list[Pass]) -> Group:
        """Judge a group of decoded images by all nets."""
        # all that look for the cell see the same
        looking = next((i for i, one in enumerate(self.preprocessings) if one.localises), 0)
        squares = [each[looking][1] for each in decoded.taken]
        cells = [self.preprocessings[looking].word(square) for square in squares]
        verdicts = [self._verdict(engine, decoded, way) for engine, way in zip(self.engines, ways, strict=True)]
        found = [self._in_order(engine, one) for engine, one in zip(self.engines, verdicts, strict=True)]
        unlike = [one.unlike for one in verdicts if one is not None and one.unlike is not None]
        strange = np.mean(unlike, axis=0) > 0.5 if len(unlike) == len(verdicts) else None
        read = decoded.given, decoded.images, decoded.bad
        return Group(*read, np.mean(found, axis=0), cells, squares, strange)

    def _verdict(self, engine: Engine, decoded: Decoded, way: Pass) -> Judged | None:
        """Return what one classifier makes of a group; None where no image of it can be read."""
        number = self.preprocessings.index(engine.preprocessing)
        pixels = [each[number][0] for each in decoded.taken]
        return engine.judge(np.stack(pixels), way, self.symmetries) if pixels else None

    def _in_order(self, engine: Engine, verdict: Judged | None) -> Array:
        """Return a classifier's probabilities in the order of the first one's classes, (N, C)."""
        if verdict is None:
            return np.empty((0, len(self.classes)))
        return verdict.probabilities[:, [engine.classes.index(name) for name in self.classes]]
