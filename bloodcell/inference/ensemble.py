"""The mean of the probabilities of one classifier or several, over a stream of images or of the cells in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from bloodcell.data.blank import blank
from bloodcell.data.cells import Cell, doubtful, find_cells
from bloodcell.data.decoder import image_batches, read_and_compute
from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import Preprocessing, as_array
from bloodcell.data.slide_tiles import cells_of
from bloodcell.inference.answers import sure_of_others
from bloodcell.inference.engine import Engine, Pass, Prediction, joined
from bloodcell.inference.fields.slide_parts import SlidePart, part_of
from bloodcell.inference.groups import KEPT, Decoded, Field, Group, ImageLike, Views
from bloodcell.inference.tta import as_trained, symmetries
from bloodcell.runtime.hardware import decoders

Array = np.ndarray[Any, np.dtype[Any]]

#: Number of images that a thread decodes before they pass the nets, and largest number of cells that pass at once.
GROUP = 64
#: Number of fields that a thread decodes before their cells pass the nets. It does not depend on what is left, so that
#: the same cells pass together whether or not a table is continued.
FIELDS = 8


class Ensemble:
    """One classifier, or several of the same classes in any order, that share the decoding of each image.

    Probabilities are in the order of `classes`.

    Args:
        engines: The classifiers.
        tta: none, flips or d4: the symmetries to average over; None: those of the training.
        cells: one: each member sees an image as in its training. whole: each sees the whole image. all: each cell of
            an image is predicted.
        keeps_pictures: The groups have the pictures of fields.
        keeps_views: The groups have what the first member sees of each row.
    """

    def __init__(
        self,
        engines: list[Engine],
        tta: str | None = None,
        cells: str = "one",
        keeps_pictures: bool = False,
        keeps_views: bool = False,
    ) -> None:
        self.tta = as_trained(tta, [engine.tta for engine in engines])
        self.engines, self.symmetries = engines, symmetries(self.tta)
        self.finds_all, self.keeps_pictures, self.keeps_views = cells == "all", keeps_pictures, keeps_views
        self.classes, self.left_out = list(engines[0].classes), list(engines[0].left_out)
        self.seen = [_seen(engine.preprocessing, cells) for engine in engines]
        self.preprocessings = list(dict.fromkeys(self.seen))
        self.white = white_of(engines)

    def predict(self, groups: Iterable[list[ImageLike]], count: int, threads: int | None = None) -> Iterator[Group]:
        """Predict groups of one image or more, read lazily, in order; threads decode some groups ahead of the nets.

        The fastest pass for `count` images in all is taken; threads None: one per core.
        """
        ways = self.passes(count)
        streams = min(way.streams for way in ways)
        read, compute = self._cells_decoded if self.finds_all else self._decoded, partial(self._predicted, ways=ways)
        yield from read_and_compute(read, compute, groups, decoders(threads), streams)

    def passes(self, count: int) -> list[Pass]:
        """Return each net's fastest pass for a number of images, built."""
        return [engine.passes(count) for engine in self.engines]

    def _readable(self, decoded: Decoded, read: list[ImageLike]) -> Iterator[Array]:
        """Yield the picture of each image that can be read, which is added to `read` first."""
        for item in decoded.given:
            try:
                picture = as_array(item, self.white)
            except ImageError as error:
                decoded.bad.append((item, str(error)))
            else:
                read.append(item)
                yield picture
                del picture  # before the next one takes memory

    def _decoded(self, items: list[ImageLike]) -> Decoded:
        decoded = Decoded(items)
        for pictures in image_batches(self._readable(decoded, decoded.images)):
            decoded.views += zip(*(one.prepare(pictures) for one in self.preprocessings), strict=True)
            del pictures[:]
        return decoded

    def _cells_decoded(self, items: list[ImageLike]) -> Decoded:
        if part := part_of(items):
            return self._part_decoded(part)
        read: list[ImageLike] = []
        decoded = Decoded(items, fields=(fields := []))
        for picture in self._readable(decoded, read):
            cells = find_cells(picture)
            decoded.views += zip(*(one.cut_cells(picture, cells) for one in self.preprocessings), strict=True)
            decoded.images += read[-1:] * len(cells)
            kept = _smaller(picture) if self.keeps_pictures else (None, 1.0)
            fields.append(Field(read[-1], cells, blank(picture), *kept))
            del picture
        return decoded

    def _part_decoded(self, part: SlidePart) -> Decoded:
        """Return the cells of a part of a slide as those of one field, in pixels of the slide."""
        decoded, cells, path = Decoded([part], fields=(fields := [])), list[Cell](), part.path
        try:
            for tile in cells_of(part.plan, part.tiles) if part.plan else ():
                decoded.views += zip(
                    *(one.cut_cells(tile.picture, tile.cells) for one in self.preprocessings), strict=True
                )
                cells += tile.placed
        except ImageError as error:
            return Decoded([part], bad=[(path, str(error))], fields=[])
        if part.plan is None:
            return Decoded([part], bad=[(path, part.error)], fields=[])
        decoded.images = [path] * len(cells)
        fields.append(Field(path, cells, ""))
        return decoded

    def _predicted(self, decoded: Decoded, ways: list[Pass]) -> Group:
        members = [self._member(number, decoded.views, way) for number, way in enumerate(ways)]
        answered = np.logical_and.reduce([one.finite for one in members])
        if not answered.all():
            stays = decoded.leave_out(answered)
            members = [one.chosen(stays) for one in members]
        views, fields = decoded.views, decoded.fields
        # all that look for the cell see the same
        looking = next((i for i, one in enumerate(self.preprocessings) if one.crops_cell), 0)
        squares = [each[looking][1] for each in views]
        cells = [self.preprocessings[looking].cell_status(square) for square in squares]
        mean = np.mean([one.probabilities for one in members], axis=0)
        blanks = [blank(each[0][0]) for each in views] if fields is None else [one.blank for one in fields]
        unlike, others = _most([one.unlike for one in members]), self._others(members)
        if unlike is not None and fields is not None and part_of(decoded.given) is None:  # a part may have few cells
            unlike = unlike | np.array([doubtful(one.cells) for one in fields for _ in one.cells], bool)
        if others is not None:
            unlike = np.array([name != "" for name in others], bool) | (False if unlike is None else unlike)
        seen = [each[self.preprocessings.index(self.seen[0])][0] for each in views] if self.keeps_views else None
        given, images, bad = decoded.given, decoded.images, decoded.bad
        return Group(given, images, bad, mean, members, cells, squares, blanks, unlike, fields, seen, others)

    def _others(self, members: list[Prediction]) -> list[str] | None:
        """Return for each row the class left out that the members, on average, are sure of; None: none is left out."""
        left_out = [one.left_out for one in members if one.left_out is not None]
        return sure_of_others(np.mean(left_out, axis=0), self.left_out) if left_out else None

    def _member(self, number: int, views: list[Views], way: Pass) -> Prediction:
        """Return the prediction of one member, at most `GROUP` rows at once."""
        engine, place = self.engines[number], self.preprocessings.index(self.seen[number])
        if not views:
            nothing = np.empty((0, len(self.classes)))
            others = np.empty((0, len(self.left_out))) if self.left_out else None
            return Prediction(nothing, nothing, None if engine.limits is None else np.empty(0, bool), None, others)
        pixels = [each[place][0] for each in views]
        parts = (np.stack(pixels[start : start + GROUP]) for start in range(0, len(pixels), GROUP))
        found = joined([engine.predict(part, way, self.symmetries) for part in parts])
        order = [engine.classes.index(name) for name in self.classes]
        features = found.features if self.keeps_views else None
        others = found.left_out
        if others is not None:
            others = others[:, [engine.left_out.index(name) for name in self.left_out]]
        return Prediction(found.probabilities[:, order], found.plain[:, order], found.unlike, features, others)


def _smaller(picture: Array) -> tuple[Array, float]:
    """Return a picture scaled down to a longer side of `KEPT`, and by how much."""
    scale = min(1.0, KEPT / max(picture.shape[:2]))
    if scale == 1:
        return picture, scale
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)), scale


def white_of(engines: list[Engine]) -> float | None:
    """Return the least white of images that declare none, the largest of the classifiers' trainings."""
    return max((engine.preprocessing.white for engine in engines if engine.preprocessing.white), default=None)


def _seen(preprocessing: Preprocessing, cells: str) -> Preprocessing:
    """Return the preprocessing that the choice of cells leaves; equal ones share their work."""
    if cells == "all":
        return preprocessing
    return replace(preprocessing.of_whole_images(), crop="none" if cells == "whole" else preprocessing.crop)


def _most(unlike: list[Array | None]) -> Array | None:
    known = [one for one in unlike if one is not None]
    return np.mean(known, axis=0) > 0.5 if len(known) == len(unlike) else None
