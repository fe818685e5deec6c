"""A field with a coloured box around each cell, its number and class, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bloodcell.inference.groups import Field
from bloodcell.runtime.colours import COLOURS, letters_on
from bloodcell.runtime.console import printable
from bloodcell.runtime.fonts import font_file

Array = np.ndarray[Any, np.dtype[Any]]

#: Height of letters, in shorter sides of the picture and at least in pixels.
LETTER, LEAST = 1 / 45, 11
#: Scale of a picture below which lines have one pixel.
SMALL = 0.3
#: Mark behind a class -> what it means.
MARKS = {"?": "left to a human", "*": "unlike the training data", "!": "surely of a class left out"}


def marks_of(
    probabilities: Array, threshold: float, unlike: Sequence[bool] | None, others: Sequence[str] | None
) -> list[str]:
    """Return the mark of each of N cells, '' for none, as in `MARKS`; of several, the last of these.

    Args:
        probabilities: Float64 (N, classes).
        threshold: Confidence below which a cell is left to a human.
        unlike: Whether each cell is unlike the training data; None: it is unknown.
        others: The class left out of which each cell surely is, '' if it is of none; None: no class is left out.
    """
    sure = probabilities.max(axis=1, initial=0) >= threshold
    strange = [False] * len(sure) if unlike is None else unlike
    rows = zip(sure, strange, others or [""] * len(sure), strict=True)
    return ["!" if other else "*" if odd else "" if one else "?" for one, odd, other in rows]


def overlay(field: Field, probabilities: Array, classes: list[str], marks: Sequence[str] | None = None) -> Image.Image:
    """Draw the boxes of a field's N cells on its picture, above a legend with the number of cells of each class.

    Args:
        field: With its picture.
        probabilities: Of its cells, float64 (N, classes).
        classes: Their names; each has one of eight colours.
        marks: Of the cells, `marks_of`; None: they have none.
    """
    assert field.picture is not None
    picture, names = Image.fromarray(field.picture), [printable(name) for name in classes]
    colours = [colour for _, colour in zip(names, cycle(COLOURS), strict=False)]
    size = max(LEAST, round(LETTER * min(picture.size)))
    draw, font, best = ImageDraw.Draw(picture), _font("".join(names), size), probabilities.argmax(axis=1)
    for cell, kind in zip(field.cells, best, strict=True):
        _draw_box(
            draw,
            [field.scale * side for side in cell.box],
            colours[kind],
            max(2, size // 5) if field.scale > SMALL else 1,
        )
    sides = [field.scale * cell.diameter for cell in field.cells]
    labelled = len(sides) > 0 and 2 * float(np.median(sides)) >= size  # letters would hide smaller cells
    marks = marks or [""] * len(field.cells)
    for number, (cell, kind, mark) in enumerate(zip(field.cells, best, marks, strict=True), start=1):
        corner = field.scale * cell.box[0], field.scale * cell.box[1]
        if labelled:
            _draw_label(draw, corner, f"{number} {names[kind]} {mark}".rstrip(), colours[kind], font)
    counts = [f"{name} {number}" for name, number in zip(names, np.bincount(best, minlength=len(names)), strict=True)]
    entries: list[tuple[str, str]] = list(zip(counts, colours, strict=True)) if len(best) else [("no cell", "")]
    entries += [(f"{mark} {meaning}", "") for mark, meaning in MARKS.items() if mark in marks]
    return _above(picture, _legend(entries, picture.width, font))


def _draw_box(draw: ImageDraw.ImageDraw, box: list[float], colour: str, width: int) -> None:
    left, top, across, down = box
    corners = left, top, max(left, left + across - 1), max(top, top + down - 1)
    draw.rectangle(corners, outline=colour, width=width)


def _draw_label(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str, font: Any) -> None:
    """Write on the colour above the corner of a box, or in the box if the picture ends there."""
    pad = font.size // 5
    width, height = draw.textlength(text, font) + 2 * pad, font.size + 2 * pad
    image = draw.im.size
    x, y = max(0, min(corner[0], image[0] - width)), corner[1] - height
    y = y if y >= 0 else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad, y + height / 2), text, letters_on(colour), font, anchor="lm")


def _legend(entries: list[tuple[str, str]], width: int, font: Any) -> Image.Image:
    """Draw texts, each behind a square of its colour if it has one, in as many lines as they take."""
    size, line = font.size, round(1.7 * font.size)
    places, x, y = [], size, 0
    for text, colour in entries:
        length = round(font.getlength(text)) + (3 if colour else 2) * size
        if x + length > width and x > size:
            x, y = size, y + line
        places.append((x, y))
        x += length
    legend = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(legend)
    for (text, colour), (x, y) in zip(entries, places, strict=True):
        middle = y + line / 2
        if colour:
            draw.rectangle((x, middle - size / 2, x + size, middle + size / 2), fill=colour)
        draw.text((x + (1.4 * size if colour else 0), middle), text, "black", font, anchor="lm")
    return legend


def _above(picture: Image.Image, legend: Image.Image) -> Image.Image:
    both = Image.new("RGB", (picture.width, picture.height + legend.height))
    both.paste(picture)
    both.paste(legend, (0, picture.height))
    return both


@cache
def _font(letters: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(letters), size)
