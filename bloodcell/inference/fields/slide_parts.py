"""Whole slides on their way through the nets: a slide passes in parts of some tiles, and its rows become one table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.data.cells import Cell
from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.slide_tiles import Box, Plan, near_seam, plan_of, repeated
from bloodcell.data.whole_slides import opened
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.errors import BloodcellError

if TYPE_CHECKING:
    from bloodcell.inference.groups import Group

#: Number of tiles that pass together: a thread holds the net's input for all their cells.
TILES = 4


@dataclass(frozen=True)
class SlidePart:
    """Some tiles of a whole slide.

    Attributes:
        path: The file.
        number: From 0.
        of: Number of the slide's parts, 1 or more.
        plan: How it is read; None: it cannot be read.
        tiles: The cores of its tiles.
        error: Why it cannot be read.
    """

    path: str
    number: int = 0
    of: int = 1
    plan: Plan | None = None
    tiles: tuple[Box, ...] = ()
    error: str = ""

    @property
    def is_last(self) -> bool:
        """Whether no part of the slide follows."""
        return self.number == self.of - 1


def part_of(given: Sequence[Any]) -> SlidePart | None:
    """Return the part of a slide that a group is; None: it is one of images or fields."""
    return given[0] if given and isinstance(given[0], SlidePart) else None


def parts_of(path: str, preprocessings: Sequence[Preprocessing]) -> list[SlidePart]:
    """Plan a whole slide, print how it is read, and return its parts, from the top; one without a plan if it is bad."""
    extents = [one.cells_wide for one in preprocessings]
    wanted = max(one.image_size / extent for one, extent in zip(preprocessings, extents, strict=True))
    try:
        plan = plan_of(path, wanted, max(extents) / 2)
    except ImageError as error:
        return [SlidePart(path, error=str(error))]
    starts = range(0, len(plan.tiles), TILES)
    say(
        f"{path}: cells of about {plan.diameter:.0f} pixels in level {plan.level}, {plan.measured}; "
        f"{len(plan.tiles):,} of {counted(plan.all_tiles, 'tile')} show something"
    )
    cut = replace(plan, tiles=())
    parts = [
        SlidePart(path, number, len(starts), cut, plan.tiles[start : start + TILES])
        for number, start in enumerate(starts)
    ]
    return parts or [SlidePart(path, plan=cut)]


def groups_of(
    names: Iterator[str],
    slides: Collection[str],
    size: int,
    parts: Callable[[str], list[SlidePart]],
    done: tuple[int, int],
) -> Iterator[list[Any]]:
    """Yield groups of at most `size` fields, which do not depend on how many are left, and each part of a slide alone.

    `done` is how many parts of the first name are left out, and how many parts it had then; 0: none are.

    Raises:
        BloodcellError: It has another number of parts now.
    """
    fields: list[Any] = []
    for name in names:
        if name in slides:
            if fields:
                yield fields
            fields = []
            found, (left_out, before) = parts(name), done
            if left_out and len(found) != before:
                raise BloodcellError(f"{name} is not the slide that it was; overwrite=true begins again")
            for part in found[left_out:]:
                yield [part]
        elif len(fields := [*fields, name]) == size:
            yield fields
            fields = []
        done = 0, 0
    if fields:
        yield fields


@dataclass(frozen=True)
class Pooled:
    """A part of a slide without the cells that an earlier part has.

    Attributes:
        group: The part.
        kept: Boxes of the cells that a later part may find again, slide pixels.
    """

    group: Group
    kept: list[list[int]]


def pooled(group: Group, part: SlidePart, known: Sequence[Sequence[int]]) -> Pooled:
    """Leave out the cells of a part that are `known`: boxes of earlier parts near a seam."""
    assert group.fields is not None
    assert part.plan is not None
    seen = [Cell(left, top, width, height) for left, top, width, height in known]
    stays: list[bool] = []
    for cell in group.fields[0].cells:
        at_seam = near_seam(cell, part.plan, part.tiles)
        stays.append(not (at_seam and repeated(cell, seen)))
        if at_seam and stays[-1]:
            seen.append(cell)
    top = _first_line_to_come(part)
    kept = [list(cell.box) for cell in seen if cell.top + cell.height >= top]
    return Pooled(_chosen(group, stays), kept)


def _first_line_to_come(part: SlidePart) -> float:
    """Return the upper end of what later parts may show, slide pixels."""
    assert part.plan is not None
    if not part.tiles:
        return 0.0
    scale = opened(part.path).scale(part.plan.level)[1]
    return (part.tiles[-1][1] - part.plan.margin) * scale


def _chosen(group: Group, stays: list[bool]) -> Group:
    """Return some rows of a group that is a part of a slide."""
    assert group.fields is not None
    rows = np.array(stays, bool)
    return replace(
        group,
        images=list(compress(group.images, stays)),
        probabilities=group.probabilities[rows],
        members=[one.chosen(rows) for one in group.members],
        cells=list(compress(group.cells, stays)),
        squares=list(compress(group.squares, stays)),
        unlike=None if group.unlike is None else group.unlike[rows],
        others=None if group.others is None else list(compress(group.others, stays)),
        fields=[replace(one, cells=list(compress(one.cells, stays))) for one in group.fields],
    )
