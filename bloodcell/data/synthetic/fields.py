"""Fields of several white cells, as a camera on a microscope takes them from a slide, with a box around each cell.

The white cells are those of `painter`, at the magnification of the slide. Around them are red cells, single and clumped
platelets, precipitate of the stain, dirt, and now and then the smear of a nucleus whose cell has burst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from bloodcell.data.cells import Cell
from bloodcell.data.images import Pixels
from bloodcell.data.synthetic import painter
from bloodcell.data.synthetic.painter import LOOKS, Floats, Stain, View, around, clouds, inside, plane

#: Size of a field, pixels.
HEIGHT, WIDTH = 480, 640

#: Most white cells in a field.
MOST = 8

#: Size of cells relative to those of `painter`, whose nuclei have 69 pixels in the mean: nuclei of 20 to 90 pixels.
MAGNIFICATION = (0.29, 1.3)

#: Largest radius of anything at magnification 1, pixels.
LARGEST = 66

#: Least distance of two white cells in sums of their radii: they touch or overlap a little.
TOUCH = 0.92

#: Value of the black around what an eyepiece shows.
SURROUND = 5

#: Optical density of dirt: brown.
DIRT = np.array([0.7, 0.9, 1.1], np.float32)


@dataclass(frozen=True)
class Slide:
    """What the fields of one slide share."""

    magnification: float  # relative to `painter`
    stain: Stain
    view: View  # light and focus; its x and y mean nothing here
    white: float  # mean number of white cells in a field
    red_radius: float  # typical radius of a red cell, pixels
    pallor: float  # how pale its centre is, 0 to 1
    crowd: float  # area of red cells relative to that of the field, if none overlapped
    spacing: float  # least distance of two red cells, in typical diameters
    platelets: float  # mean number for each red cell
    eyepiece: tuple[float, float, float] | None  # x, y and radius of what an eyepiece shows, pixels; None: everything

    @property
    def pad(self) -> int:
        """Width of the strip around a field in which whole cells at its border find room, pixels."""
        return int(np.ceil(1.4 * LARGEST * self.magnification)) + 3

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a field and the strip around it, pixels."""
        return HEIGHT + 2 * self.pad, WIDTH + 2 * self.pad

    @cached_property
    def lit(self) -> Floats:
        """Return the share of the light that an eyepiece lets through: (HEIGHT, WIDTH), 0 to 1."""
        if self.eyepiece is None:
            return np.ones((HEIGHT, WIDTH), np.float32)
        left, top, radius = self.eyepiece
        y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        return np.asarray(np.clip(0.5 + (radius - np.hypot(x - left, y - top)) / 4, 0, 1), np.float32)


@dataclass(frozen=True)
class WhiteCell:
    """A white cell to be painted into a field, pixels."""

    label: str  # one of painter.CLASSES
    x: float  # of its centre, which the picture shows
    y: float
    radius: float


def draw_slide(rng: np.random.Generator) -> Slide:
    """Draw magnification, stain, light, and how crowded a slide is."""
    magnification = float(np.exp(rng.uniform(*np.log(MAGNIFICATION))))
    view = painter.draw_view(rng)
    middle = (rng.uniform(0.45, 0.55) * WIDTH, rng.uniform(0.48, 0.52) * HEIGHT)
    eyepiece = (*middle, rng.uniform(0.48, 0.58) * HEIGHT)
    return Slide(
        magnification=magnification,
        stain=painter.draw_stain(rng),
        view=replace(view, blur=max(0.35, magnification * view.blur)),
        white=rng.uniform(1.5, 4.5),
        red_radius=magnification * rng.uniform(25, 32),
        pallor=rng.uniform(0.2, 0.8),
        crowd=rng.uniform(0.3, 1.2),
        spacing=rng.uniform(0.7, 1.02),
        platelets=rng.uniform(0.02, 0.15),
        eyepiece=eyepiece if rng.uniform() < 0.3 else None,
    )


def place_cells(labels: Sequence[str], slide: Slide, rng: np.random.Generator) -> list[WhiteCell]:
    """Place white cells of these classes in a field; only the first ones if there is no room for more.

    Every centre is in the picture, so the border may cut a cell, but shows half of it or so.
    """
    cells: list[WhiteCell] = []
    for label in labels:
        radius = slide.magnification * rng.uniform(*LOOKS[label].radius)
        free = (
            (x, y)
            for x, y in _places(cells, radius, rng)
            if 0 <= x < WIDTH and 0 <= y < HEIGHT and slide.lit[int(y), int(x)] == 1
            if all(np.hypot(x - one.x, y - one.y) >= TOUCH * (radius + one.radius) for one in cells)
        )
        if (place := next(free, None)) is None:
            break
        cells.append(WhiteCell(label, *place, radius))
    return cells


def _places(cells: list[WhiteCell], radius: float, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Yield places for a further cell: some beside another cell, the others anywhere."""
    if cells and rng.uniform() < 0.15:
        other, angle = cells[rng.integers(len(cells))], rng.uniform(0, 2 * np.pi)
        distance = rng.uniform(TOUCH, 1.02) * (radius + other.radius)
        yield other.x + distance * np.cos(angle), other.y + distance * np.sin(angle)
    for _ in range(100):
        yield rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)


def paint_field(slide: Slide, cells: Sequence[WhiteCell], rng: np.random.Generator) -> tuple[Pixels, list[Cell]]:
    """Paint a field, uint8 (HEIGHT, WIDTH, 3), RGB, and return it with the true box of each cell, in order."""
    density = paint_ground(slide, cells, rng)
    boxes = add_cells(density, slide, cells, rng)
    return take_picture(density, slide, rng), boxes


def paint_ground(slide: Slide, cells: Sequence[WhiteCell], rng: np.random.Generator) -> Floats:
    """Paint all but the white cells, and leave room for these: optical density, (*slide.shape, 3), 0 and more."""
    stain, places = slide.stain, np.array([(one.y, one.x, one.radius) for one in cells]).reshape(-1, 3)
    places[:, :2] += slide.pad
    purple = _platelets(slide, rng) + _precipitate(slide, rng)
    if rng.uniform() < 0.12:
        purple += _smudge(slide, places, rng)
    density = purple[..., None] * stain.purple
    density += _red_cells(slide, places, rng)[..., None] * stain.red
    density += _spots(slide, _anywhere(slide, rng.poisson(0.5), rng), (3, 14), (0.3, 0.9), rng)[..., None] * DIRT
    return np.asarray(density, np.float32)


def add_cells(density: Floats, slide: Slide, cells: Sequence[WhiteCell], rng: np.random.Generator) -> list[Cell]:
    """Paint white cells over a ground, in place, and return the box of what is seen of each."""
    boxes = []
    for cell in cells:
        painted = painter.white_cell(LOOKS[cell.label], slide.stain, cell.radius / slide.magnification, rng)
        part, cover = (_resized(one, slide.magnification) for one in painted)
        place = around((cell.y + slide.pad, cell.x + slide.pad), cover)
        density[place] = density[place] * (1 - cover[..., None]) + part
        covered = np.zeros(slide.shape, bool)
        covered[place] = cover > 0.5
        seen = covered[slide.pad : -slide.pad, slide.pad : -slide.pad] & (slide.lit > 0.5)
        left, top, width, height = cv2.boundingRect(seen.view(np.uint8))
        boxes.append(Cell(left, top, width, height, border=bool(seen.sum() < covered.sum())))
    return boxes


def take_picture(density: Floats, slide: Slide, rng: np.random.Generator) -> Pixels:
    """Photograph a field without the strip around it, a little more or less in focus than the others of its slide."""
    view = replace(slide.view, blur=slide.view.blur * rng.uniform(0.8, 1.4))
    picture = painter.take_picture(density[slide.pad : -slide.pad, slide.pad : -slide.pad], view, rng)
    lit = slide.lit[..., None]
    return np.asarray(picture * lit + SURROUND * (1 - lit), np.uint8)


def _resized(part: Any, magnification: float) -> Floats:
    """Return a part, (N, N, ...), N odd, at another magnification, with an odd side too."""
    side = 2 * max(1, round(magnification * (len(part) // 2))) + 1
    how = cv2.INTER_AREA if magnification < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (side, side), interpolation=how), np.float32)


def _red_cells(slide: Slide, places: Any, rng: np.random.Generator) -> Floats:
    """Return the haemoglobin of red cells, away from the white cells at `places`, (cells, 3): y, x, radius."""
    canvas, radius = np.zeros(slide.shape, np.float32), slide.red_radius
    clear = [
        centre
        for centre in _anywhere(slide, round(2 * slide.crowd * canvas.size / (np.pi * radius**2)), rng)
        if (np.hypot(*(places[:, :2] - centre).T) > places[:, 2] + 0.85 * radius).all()
    ]
    taken = np.empty((0, 2))
    for centre in clear:
        if (np.hypot(*(taken - centre).T) > 2 * slide.spacing * radius).all():
            taken = np.vstack([taken, centre])
            cell = painter.red_cell(radius * rng.uniform(0.85, 1.15), slide.pallor, rng)
            canvas[around(centre, cell)] += cell
    return canvas


def _platelets(slide: Slide, rng: np.random.Generator) -> Floats:
    """Return the purple of platelets; now and then some lie in a clump."""
    red_cells = slide.crowd * np.prod(slide.shape) / (np.pi * slide.red_radius**2)
    single = _anywhere(slide, rng.poisson(slide.platelets * red_cells), rng)
    clumps = [_clump(slide, (5, 20), 14, rng) for _ in range(rng.poisson(0.3))]
    return _spots(slide, np.vstack([single, *clumps]), (4, 8), (0.25, 0.6), rng)


def _precipitate(slide: Slide, rng: np.random.Generator) -> Floats:
    """Return the purple of small dark grains of stain, in patches."""
    patches = [_clump(slide, (10, 50), 18, rng) for _ in range(rng.poisson(0.4))]
    return _spots(slide, np.vstack([np.empty((0, 2)), *patches]), (0.8, 2.2), (0.8, 1.5), rng)


def _smudge(slide: Slide, places: Any, rng: np.random.Generator) -> Floats:
    """Return the pale purple of a smeared nucleus; nothing if it would lie on a white cell."""
    canvas, radius = np.zeros(slide.shape, np.float32), slide.magnification * rng.uniform(45, LARGEST)
    centre = _anywhere(slide, 1, rng, edge=1.0)[0]
    if (np.hypot(*(places[:, :2] - centre).T) > places[:, 2] + radius).all():
        u, v = plane(radius, 0.3, rng)
        body = np.clip(2 * (1 - np.hypot(u, rng.uniform(1.0, 1.6) * v)), 0, 1)
        strands = np.clip(0.55 + 0.3 * clouds(len(u), radius / 4, rng), 0.1, 1)
        canvas[around(centre, u)] = body * strands * rng.uniform(0.5, 0.8)
    return canvas


def _anywhere(slide: Slide, number: int, rng: np.random.Generator, edge: float = 0.6) -> Any:
    """Draw centres, (number, 2), y and x; `edge` is the least distance from the border of the canvas, in pads.

    At 0.6, a red cell may lie outside the picture, but not outside the canvas.
    """
    return rng.uniform(edge * slide.pad, np.array(slide.shape) - edge * slide.pad, size=(number, 2))


def _clump(slide: Slide, number: tuple[int, int], spread: float, rng: np.random.Generator) -> Any:
    """Draw centres near one another, (N, 2); `spread` is their standard deviation at magnification 1, pixels."""
    shifts = spread * rng.standard_normal((rng.integers(*number), 2))
    near = _anywhere(slide, 1, rng) + slide.magnification * shifts
    return np.clip(near, 0.6 * slide.pad, np.array(slide.shape) - 0.6 * slide.pad)


def _spots(
    slide: Slide, centres: Any, size: tuple[float, float], strength: tuple[float, float], rng: np.random.Generator
) -> Floats:
    """Return small roundish spots, with the range of their radius at magnification 1, pixels, and of their density."""
    canvas = np.zeros(slide.shape, np.float32)
    for centre in centres:
        radius = slide.magnification * rng.uniform(*size)
        u, v = plane(radius, 0.2, rng)
        canvas[around(centre, u)] += inside(1 - np.hypot(u, v), radius) * np.float32(rng.uniform(*strength))
    return canvas
