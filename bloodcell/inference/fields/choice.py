"""`cells=auto`: whether the pictures are fields, in which each cell is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from statistics import median
from typing import NamedTuple

from bloodcell.data.cells import Cell, find_cells
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import Pixels
from bloodcell.data.preprocessing import EXTENT, as_array
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import white_of
from bloodcell.inference.groups import ImageLike
from bloodcell.runtime.console import counted, say

#: Largest number of pictures that decide.
MOST = 32
#: Diameter of the largest cell in shorter sides of the picture, the median, below which pictures are fields. It is 0.46
#: (Kaggle), 0.51 (Barcelona) and 0.56 (Chulalongkorn) in pictures of one cell, and 0.16 and 0.06 by the annotated boxes
#: of two sets of fields.
SMALL = 0.3
#: The same, by that of the net's training images: pictures that look like them show one cell each, however small it is.
SMALLER = 0.75
#: Shorter side of a field among pictures of one cell, in those of the latter: small cells alone say little, as pictures
#: of platelets have them.
LARGER = 1.5


def chosen_cells(asked: str, engines: list[Engine], sample: Callable[[int], Iterable[ImageLike]]) -> str:
    """Return one, all or whole, and print what `auto` and `all` assume.

    `sample` returns at most that many pictures, evenly spread.
    """
    cells = asked if asked != "auto" else _by_size(list(sample(MOST)), white_of(engines), least_size(engines))
    if cells == "all" and (words := unknown_extent(engines)):
        say(words)
    return cells


def least_size(engines: list[Engine]) -> float:
    """Return the diameter of the largest cell, in shorter sides of a picture, below which pictures are fields."""
    extents = (one.preprocessing.extent for one in engines)
    return min([SMALL, *(SMALLER / extent for extent in extents if extent)])


def largest_size(picture: Pixels, cells: Iterable[Cell]) -> float | None:
    """Return the diameter of the largest cell in shorter sides of a picture, uint8 (H, W, 3); None: there is none."""
    return max((cell.diameter / min(picture.shape[:2]) for cell in cells), default=None)


def unknown_extent(engines: list[Engine]) -> str:
    """Return what is assumed of the size of cells in the training images, if it is not known; else ''."""
    if all(one.preprocessing.crops_cell or one.preprocessing.extent is not None for one in engines):
        return ""
    return (
        "the checkpoint does not say how large the cells in its training images are: each cell is shown to the net "
        f"in a square of {EXTENT:g} diameters"
    )


def spread(items: Iterable[ImageLike], most: int, total: int) -> Iterator[ImageLike]:
    """Return at most `most` of the `total` items, evenly spread."""
    return islice(items, 0, None, max(1, -(-total // most)))


def _by_size(images: list[ImageLike], white: float | None, small: float) -> str:
    found = [measured for image in images if (measured := _measured(image, white)) is not None]
    if not found or (middle := median(one.size for one in found)) >= small:
        if note := _mixed(found, small):
            say(f"note: {note}")
        return "one"
    say(
        f"cells=auto: all, a row for each cell, as the largest cell has {100 * middle:.0f} % of the shorter side, in "
        f"the median of {counted(len(found), 'image')}; cells=one gives each image one row"
    )
    return "all"


class _Measured(NamedTuple):
    side: int  # the shorter one of an image, pixels
    size: float  # diameter of its largest cell, in shorter sides


def _measured(image: ImageLike, white: float | None) -> _Measured | None:
    try:
        picture = as_array(image, white)
    except ImageError:
        return None  # it is reported when it is predicted
    size = largest_size(picture, find_cells(picture))
    return None if size is None else _Measured(min(picture.shape[:2]), size)


def _mixed(found: list[_Measured], small: float) -> str:
    """Return a sentence if some images look like fields and the others do not; else ''."""
    usual = median([one.side for one in found if one.size >= small] or [0])
    fields = sum(one.size < small and one.side >= LARGER * usual for one in found)
    if not fields:
        return ""
    return (
        f"{fields} of {counted(len(found), 'image')} that were looked at may be fields, as they are larger and their "
        "cells small, but each image gets one row; cells=all gives each cell one"
    )
