"""Painted fields: several photographs side by side; and whole slides of fields with known cells."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import tifffile

from bloodcell.data.cells import Cell
from bloodcell.data.synthetic.fields import HEIGHT, WIDTH, WhiteCell, draw_slide, paint_field
from bloodcell.data.synthetic.painter import CLASSES, LOOKS, paint_photograph

#: Magnification of the painted slides, and the diameter of a white cell in them, pixels, about.
MAGNIFICATION, DIAMETER = 0.45, 50.0


def field(seed, across=2, down=2):
    """Paint a field, uint8 (240 * down, 320 * across, 3), with a white cell in each part."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, size=(down, across))
    return np.concatenate(
        [np.concatenate([paint_photograph(label, rng)[0] for label in row], axis=1) for row in labels], axis=0
    )


@cache
def known_field(seed):
    """Paint a field of eight cells that no border cuts, uint8 (480, 640, 3), and return it with their boxes, (8, 4)."""
    rng = np.random.default_rng(seed)
    drawn = draw_slide(np.random.default_rng(0))
    sizes = {"magnification": MAGNIFICATION, "red_radius": 28 * MAGNIFICATION}
    slide = replace(drawn, **sizes, eyepiece=None, view=replace(drawn.view, blur=0.5))
    cells = [
        WhiteCell(label, 80 + 160 * (i % 4), 120 + 240 * (i // 4), MAGNIFICATION * rng.uniform(*LOOKS[label].radius))
        for i, label in enumerate(rng.choice(CLASSES, 8))
    ]
    picture, boxes = paint_field(slide, cells, rng)
    return picture, [(box.left, box.top, box.width, box.height) for box in boxes]


def whole_slide(side, fields=3, roll=(0, 0)):
    """Return a square picture of painted fields, uint8 (side, side, 3), and the cells that are whole in it.

    The picture is rolled by some pixels, across and down; cells that this cuts are left out.
    """
    picture, cells = np.empty((side, side, 3), np.uint8), []
    places = [(top, left) for top in range(0, side, HEIGHT) for left in range(0, side, WIDTH)]
    for number, (top, left) in enumerate(places):
        part, boxes = known_field(number % fields)
        picture[top : top + HEIGHT, left : left + WIDTH] = part[: side - top, : side - left]
        whole = [box for box in boxes if top + box[1] + box[3] < side - 4 and left + box[0] + box[2] < side - 4]
        cells += [((left + x + roll[0]) % side, (top + y + roll[1]) % side, w, h) for x, y, w, h in whole]
    picture = np.roll(picture, roll[::-1], axis=(0, 1))
    return picture, [Cell(*box) for box in cells if box[0] + box[2] < side and box[1] + box[3] < side]


def write_slide(file, picture, levels=3, tile=256, microns=13 / DIAMETER):
    """Write a picture as a pyramidal TIFF file with some levels, each half as large as the one before."""
    known = {} if microns is None else {"resolution": (1e4 / microns, 1e4 / microns), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(file) as opened:
        for level in range(levels):
            opened.write(
                picture, tile=(tile, tile), photometric="rgb", compression="zlib", compressionargs={"level": 1},
                subfiletype=int(level > 0), metadata=None, **known if not level else {},
            )  # fmt: skip
            picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return file
