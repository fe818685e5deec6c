"""A group of images or fields on its way through the nets: decoded, and predicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np

from bloodcell.data.cells import Cell
from bloodcell.inference.engine import NOT_FINITE, Prediction

Array = np.ndarray[Any, np.dtype[Any]]
#: Longer side of the pictures of fields that wait to be drawn, pixels.
KEPT = 2048
#: One image: a file, an RGB array uint8 (H, W, 3), or a Pillow image.
ImageLike = Any
Square = tuple[int, int, int]
#: An image's pixels, uint8 (size, size, 3), and the square that they show, for each preprocessing.
Views = tuple[tuple[Array, Square | None], ...]


@dataclass(frozen=True)
class Field:
    """A picture in which each cell is predicted.

    Attributes:
        image: As it was given.
        cells: In the order of their rows.
        blank: black, white or constant if it shows nothing, else ''.
        picture: The picture, with a longer side of at most `KEPT`, uint8 (h, w, 3); None: not needed.
        scale: Pixels of `picture` for each of the field.
    """

    image: ImageLike
    cells: list[Cell]
    blank: str
    picture: Array | None = None
    scale: float = 1.0


@dataclass
class Decoded:
    """The images of a group: those that are given, of those that can be read what `Group` says, and a row's views."""

    given: list[ImageLike]
    images: list[ImageLike] = field(default_factory=list)
    bad: list[tuple[ImageLike, str]] = field(default_factory=list)
    views: list[Views] = field(default_factory=list)
    fields: list[Field] | None = None

    def leave_out(self, answered: Array) -> Array:
        """Move images without an answer, bool (N,), to the bad ones, a field as a whole; return the rows that stay."""
        lost = {id(image) for image, has in zip(self.images, answered, strict=True) if not has}
        given = self.images if self.fields is None else [one.image for one in self.fields]
        self.bad += [(image, NOT_FINITE) for image in given if id(image) in lost]
        stays = np.array([id(image) not in lost for image in self.images], bool)
        self.images, self.views = list(compress(self.images, stays)), list(compress(self.views, stays))
        if self.fields is not None:
            self.fields = [one for one in self.fields if id(one.image) not in lost]
        return stays


@dataclass(frozen=True)
class Group:
    """Predictions of some images, in N rows: one for each image that can be read, or one for each cell of a field.

    Attributes:
        given: All images of the group.
        images: The image of each row.
        bad: The images that cannot be read or have no answer, each with the reason.
        probabilities: The mean over the members, float64 (N, C).
        members: Each member's prediction, its classes in the order of the ensemble's.
        cells: Each image's cell: found, none, or '' if no member looks for it, or for all cells.
        squares: Left, top and side of the square around the cell, pixels of the upright image; None: there is none.
        blanks: black, white or constant for each image or field that shows nothing, else ''.
        unlike: bool (N,): most members call the image out-of-distribution, no cell of its field is sure, or `others`
            has a class; None: one of the members cannot tell.
        fields: The fields that can be read and have an answer, also those without a cell; None: a row is an image.
        views: What the first member sees of each row, uint8 (size, size, 3); None: not kept.
        others: The class of each row that may not be answered and of which the members are sure, ''; None: all may.
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
    fields: list[Field] | None = None
    views: list[Array] | None = None
    others: list[str] | None = None
