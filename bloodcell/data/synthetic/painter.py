"""A synthetic photograph of a stained blood smear around one white cell.

The smear is painted as optical density: densities add up along the light's path, and the camera records
`light * exp(-density)` (Beer-Lambert). Romanowsky stains have two dyes, azure (blue) and eosin (red to dull pink);
together they give the purple of nuclei. The classes differ in shape only: lobes, size of the nucleus in the cell,
granules, vacuoles. Stain, light, focus, scale and number of red cells are drawn in the same way for every class, so
that the colours of a photograph identify the photograph but not its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bloodcell.data.images import Pixels

Floats = NDArray[np.float32]
Box = tuple[int, int, int, int]

CLASSES = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")

#: Size of a photograph in the Kaggle set, pixels.
HEIGHT, WIDTH = 240, 320

#: Least distance of the white cell's centre from the border: a large cell may be cut, its nucleus hardly.
MARGIN = 70

#: Half the size of a smear, (y, x): enough for any photograph of it, and PAD more for whole cells at the border.
PAD = 56
HALF = (HEIGHT - MARGIN + PAD, WIDTH - MARGIN + PAD)
SIZE = (2 * HALF[0], 2 * HALF[1])


@dataclass(frozen=True)
class Stain:
    """The dyes of one slide: optical density in red, green and blue, (3,), at full strength."""

    purple: Floats  # chromatin: reddish to bluish purple
    azure: Floats  # cytoplasm rich in RNA: grey to blue
    eosin: Floats  # granules: orange-red to the dull pink of a poor stain
    red: Floats  # haemoglobin: brownish to pink


@dataclass(frozen=True)
class Look:
    """The appearance of a class; ranges are lowest and highest value."""

    radius: tuple[float, float]  # of the cell, pixels
    nucleus: Callable[[Floats, Floats, np.random.Generator], Floats]  # (u, v) -> depth inside it, in cell radii
    cytoplasm: tuple[float, float]  # its share of azure and of eosin
    granules: tuple[float, float]  # azure and eosin that a granule adds; a vacuole if below 0
    count: tuple[int, int]  # of granules
    size: tuple[float, float]  # radius of a granule, in cell radii
    wobble: float  # deviation of the outline from a circle, in cell radii


@dataclass(frozen=True)
class View:
    """The position, focus and light of a photograph."""

    x: int  # of the white cell's centre, pixels from the left
    y: int  # pixels from the top
    blur: float  # defocus, standard deviation in pixels
    halo: float  # strength of the bright rims around cells slightly out of focus, 0 to 1
    light: Floats  # colour of the empty background, (3,), RGB, 0 to 255
    vignette: float  # loss of light at one image width from the lamp's centre, 0 to 1
    lamp: tuple[float, float]  # the brightest point, (y, x), as a share of height and width


def paint_photograph(label: str, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """Paint a photograph, uint8 (240, 320, 3), RGB, of a white cell of one of `CLASSES` among red cells and platelets.

    The white cell's box is x0, y0, x1, y1 in pixels, clipped to the photograph, x1 and y1 excluded.
    """
    density, box = paint_smear(label, rng)
    return expose(density, box, draw_view(rng), rng)


def paint_smear(label: str, rng: np.random.Generator) -> tuple[Floats, Box]:
    """Paint a piece of a slide, larger than a photograph, with a white cell of a class at the centre.

    Return its optical density, (*SIZE, 3), RGB, 0 and more, and the cell's box relative to the centre, pixels.
    """
    look, stain = LOOKS[label], draw_stain(rng)
    scale = rng.uniform(0.85, 1.15)
    radius = scale * rng.uniform(*look.radius)
    density = _platelets(scale, rng)[..., None] * stain.purple
    density += _red_cells(scale, radius, rng)[..., None] * stain.red
    cell, cover = white_cell(look, stain, radius, rng)
    centre = around(HALF, cover)
    density[centre] = density[centre] * (1 - cover[..., None]) + cell
    covered = np.argwhere(cover > 0.5) - len(cover) // 2
    (y0, x0), (y1, x1) = covered.min(axis=0), covered.max(axis=0) + 1
    return density, (int(x0), int(y0), int(x1), int(y1))


def draw_view(rng: np.random.Generator) -> View:
    """Draw the position of the cell in a photograph, the light and the focus."""
    brightness, warmth, magenta = rng.uniform(190, 238), rng.uniform(-0.06, 0.06), rng.uniform(-0.02, 0.05)
    return View(
        x=int(rng.integers(MARGIN, WIDTH - MARGIN + 1)),
        y=int(rng.integers(MARGIN, HEIGHT - MARGIN + 1)),
        blur=float(rng.uniform(0.6, 1.7)),
        halo=float(rng.uniform(0.0, 0.5)),
        light=np.float32(brightness) * np.array([1 + warmth, 1 - magenta, 1 - warmth], np.float32),
        vignette=float(rng.uniform(0.0, 0.3)),
        lamp=(float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7))),
    )


def expose(density: Floats, box: Box, view: View, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """Photograph a piece of a smear; the result is that of `paint_photograph`."""
    top, left = HALF[0] - view.y, HALF[1] - view.x
    picture = take_picture(density[top : top + HEIGHT, left : left + WIDTH], view, rng)
    return picture, clip_box(*np.add(box, 2 * (view.x, view.y)))


def take_picture(density: Floats, view: View, rng: np.random.Generator) -> Pixels:
    """Photograph an optical density, (H, W, 3), with sensor noise: uint8 (H, W, 3), RGB."""
    height, width = density.shape[:2]
    density = np.asarray(cv2.GaussianBlur(density, (0, 0), view.blur), np.float32)
    density += view.halo * (density - cv2.GaussianBlur(density, (0, 0), view.blur + 2))
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(view.lamp[0])
    x = np.linspace(0, 1, width, dtype=np.float32)[None] - np.float32(view.lamp[1])
    lamp = 1 - view.vignette * (x * x + y * y)
    picture = view.light * lamp[..., None] * np.exp(-density)
    picture += 2.5 * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def clip_box(x0: float, y0: float, x1: float, y1: float) -> Box:
    """Round a box to whole pixels and clip it to the photograph."""
    low_x, high_x = (int(np.clip(round(x), 0, WIDTH)) for x in (x0, x1))
    low_y, high_y = (int(np.clip(round(y), 0, HEIGHT)) for y in (y0, y1))
    return low_x, low_y, high_x, high_y


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw the dyes of a slide; the ranges were measured in real photographs."""
    strength = rng.uniform(0.8, 1.25)

    def between(one: tuple[float, ...], other: tuple[float, ...]) -> Floats:
        share = rng.uniform()
        return (strength * (share * np.array(one) + (1 - share) * np.array(other))).astype(np.float32)

    return Stain(
        purple=between((0.42, 0.90, 0.08), (0.85, 0.95, 0.22)),
        azure=between((0.55, 0.40, 0.05), (0.70, 0.62, 0.25)),
        eosin=between((0.04, 0.75, 0.65), (0.16, 0.50, 0.24)),
        red=between((0.06, 0.30, 0.38), (0.14, 0.42, 0.28)) * np.float32(rng.uniform(0.55, 1.0)),
    )


def white_cell(look: Look, stain: Stain, radius: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a white cell's density, (N, N, 3), and its coverage of the background, (N, N), 0 to 1."""
    u, v = plane(radius, look.wobble, rng)
    cover = inside(1 - np.hypot(u, v), radius)
    nucleus = inside(look.nucleus(u, v, rng), radius) * cover
    granules = _dots(len(u), radius, look, rng)
    body = 1 + 0.15 * clouds(len(u), 6, rng)
    azure = np.clip(look.cytoplasm[0] * body + look.granules[0] * granules, 0, None)
    eosin = np.clip(look.cytoplasm[1] * body + look.granules[1] * granules, 0, None)
    cytoplasm = azure[..., None] * stain.azure + eosin[..., None] * stain.eosin
    chromatin = 1 + 0.12 * clouds(len(u), 4, rng) + 0.08 * clouds(len(u), 10, rng)
    purple = np.clip(chromatin, 0.5, 1.5)[..., None] * stain.purple
    density = cytoplasm + nucleus[..., None] * (purple - cytoplasm)
    return (density * cover[..., None]).astype(np.float32), cover


def _red_cells(scale: float, free: float, rng: np.random.Generator) -> Floats:
    """Return the haemoglobin of red cells, some of which overlap: SIZE, about 0 to 3."""
    canvas = np.zeros(SIZE, np.float32)
    typical, pallor = scale * rng.uniform(25, 32), rng.uniform(0.2, 0.8)
    crowd, overlap = int(rng.integers(20, 150)), rng.uniform(0.6, 1.05)
    taken = np.empty((0, 2))
    for centre in rng.uniform(PAD, 2 * np.array(HALF) - PAD, size=(crowd, 2)):
        clear_of_white = np.hypot(*(centre - HALF)) > free + 0.8 * typical
        if clear_of_white and (np.hypot(*(taken - centre).T) > 2 * overlap * typical).all():
            taken = np.vstack([taken, centre])
            cell = red_cell(min(typical * rng.uniform(0.85, 1.15), PAD / 1.4), pallor, rng)
            canvas[around(centre, cell)] += cell
    return canvas


def red_cell(radius: float, pallor: float, rng: np.random.Generator) -> Floats:
    """Return a slightly oval disc, paler at its centre."""
    u, v = plane(radius, 0.06, rng)
    rho = np.hypot(u, v * rng.uniform(1.0, 1.3))
    hollow = pallor * rng.uniform(0.6, 1.1) * np.exp(-((rho / rng.uniform(0.4, 0.6)) ** 4))
    return np.asarray(inside(1 - rho, radius) * (1 - hollow) * rng.uniform(0.85, 1.15), np.float32)


def _platelets(scale: float, rng: np.random.Generator) -> Floats:
    """Return the purple of a few platelets: SIZE, 0 to 1."""
    canvas = np.zeros(SIZE, np.float32)
    for centre in rng.uniform(PAD, 2 * np.array(HALF) - PAD, size=(int(rng.integers(0, 12)), 2)):
        radius = scale * rng.uniform(4, 8)
        u, v = plane(radius, 0.2, rng)
        platelet = inside(1 - np.hypot(u, v), radius) * np.float32(rng.uniform(0.25, 0.6))
        canvas[around(centre, platelet)] += platelet
    return canvas


def _segmented(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """The neutrophil's nucleus: three to five lobes on an arc, joined by thin bridges."""
    lobes = int(rng.integers(3, 6))
    turn = np.linspace(0, np.deg2rad(rng.uniform(55, 75) * (lobes - 1) + 30), lobes)
    turn += np.deg2rad(rng.uniform(-9, 9, size=lobes))
    arc = rng.uniform(0.42, 0.56, size=lobes)
    points = np.stack([arc * np.cos(turn), arc * np.sin(turn)], axis=1)
    radii = rng.uniform(0.25, 0.32, size=lobes) * (1.2 - 0.05 * lobes)
    return _chain(u, v, points, radii, bridge=0.08)


def _bilobed(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """The eosinophil's nucleus: two large lobes joined by a bridge, off the centre."""
    apart, aside = rng.uniform(0.38, 0.46), rng.uniform(0.1, 0.3)
    points = np.array([[-apart, -aside], [apart, -aside]])
    return _chain(u, v, points, rng.uniform(0.30, 0.38, size=2), bridge=0.09)


def _kidney(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """The monocyte's nucleus: a thick arc, from a kidney to a horseshoe."""
    turn = np.linspace(0, np.deg2rad(rng.uniform(160, 250)), 9)
    arc = rng.uniform(0.42, 0.48)
    points = arc * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    thick = rng.uniform(0.27, 0.33)
    return _chain(u, v, points - 0.4 * points.mean(axis=0), np.full(9, thick), bridge=thick)


def _round(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """The lymphocyte's nucleus: a disc that nearly fills the cell."""
    aside = rng.uniform(-0.06, 0.06, size=(1, 2))
    return _chain(u, v, aside, rng.uniform(0.80, 0.90, size=1), bridge=0.0)


def _chain(u: Floats, v: Floats, points: Any, radii: Any, bridge: float) -> Floats:
    """Return the depth in cell radii inside discs, each joined to the next by a bar of half-width `bridge`."""
    depth = np.max([r - np.hypot(u - x, v - y) for (x, y), r in zip(points, radii, strict=True)], axis=0)
    for (x, y), (dx, dy) in zip(points[:-1], np.diff(points, axis=0), strict=True):
        along = np.clip(((u - x) * dx + (v - y) * dy) / (dx * dx + dy * dy), 0, 1)
        depth = np.maximum(depth, bridge - np.hypot(u - x - along * dx, v - y - along * dy))
    return np.asarray(depth)


def _dots(side: int, radius: float, look: Look, rng: np.random.Generator) -> Floats:
    """Return granules or vacuoles spread over a cell: (side, side), 0 to 1."""
    canvas = np.zeros((side, side), np.uint8)
    count = int(rng.integers(look.count[0], look.count[1] + 1))
    distance, angle = np.sqrt(rng.uniform(0, 0.96, count)), rng.uniform(0, 2 * np.pi, count)
    x, y = side / 2 + radius * distance * np.cos(angle), side / 2 + radius * distance * np.sin(angle)
    places = np.round(16 * np.stack([x, y, radius * rng.uniform(*look.size, count)], axis=1)).astype(int)
    for (cx, cy, r), tone in zip(places.tolist(), rng.integers(110, 256, count).tolist(), strict=True):
        cv2.circle(canvas, (cx, cy), r, tone, thickness=-1, lineType=cv2.LINE_AA, shift=4)  # 16 = 2 ** 4
    return cv2.GaussianBlur(canvas, (0, 0), 0.7).astype(np.float32) / np.float32(255)


def plane(radius: float, wobble: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return coordinates u, v around a cell in its radii, randomly rotated and bent; (N, N) each, N odd."""
    half = int(np.ceil(1.35 * radius))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) / np.float32(radius)
    u, v = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    u, v = (axis + wobble * clouds(2 * half + 1, radius, rng) for axis in (u, v))
    return u.astype(np.float32), v.astype(np.float32)


def clouds(side: int, grain: float, rng: np.random.Generator) -> Floats:
    """Return smooth noise, (side, side), with mean 0, standard deviation about 0.7 and blobs of `grain` pixels."""
    few = int(np.ceil(side / grain)) + 1
    coarse = rng.standard_normal((few, few), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def inside(depth: Floats, radius: float) -> Floats:
    """Return the coverage, 0 to 1, for a depth in cell radii; the edge is about two pixels wide."""
    return np.asarray(np.clip(0.5 + 0.5 * radius * depth, 0, 1), np.float32)


def around(centre: Any, part: Floats) -> tuple[slice, slice]:
    """Return the slices of a part, (N, N), N odd, around a point (y, x) of the smear."""
    (y, x), half = map(int, centre), len(part) // 2
    return slice(y - half, y + half + 1), slice(x - half, x + half + 1)


#: Radii at 320 x 240 pixels, at which the boxes annotated in BCCD have a median side of 114 pixels. The ranges overlap,
#: so that size alone does not give the class.
LOOKS = {
    "EOSINOPHIL": Look((48, 62), _bilobed, (0.05, 0.40), (0.0, 0.75), (160, 260), (0.045, 0.075), 0.07),
    "LYMPHOCYTE": Look((34, 50), _round, (0.60, 0.05), (0.0, 0.0), (0, 0), (0.05, 0.05), 0.05),
    "MONOCYTE": Look((52, 66), _kidney, (0.42, 0.08), (-0.40, -0.08), (6, 16), (0.05, 0.11), 0.10),
    "NEUTROPHIL": Look((46, 62), _segmented, (0.14, 0.16), (0.08, 0.14), (120, 200), (0.018, 0.03), 0.07),
}
