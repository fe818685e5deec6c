"""The finder on painted slides, whose cells are known: found, apart, at any size, and none in an empty picture."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest

from bloodcell.data import one_cell
from bloodcell.data.cells import MODEL, Cell, _likely, _merged, find_cells
from bloodcell.data.images import read_image
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.data.synthetic.slides import paint_slides
from tests.benchmarks.finding import matched


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Return the pictures of two painted slides and their boxes."""
    folder = tmp_path_factory.mktemp("slides")
    paint_slides(folder, 2, 30, seed=7)  # the net has seen seed 100
    found = []
    for table in sorted(folder.rglob("boxes.csv")):
        rows = pd.read_csv(table)
        for file in sorted(table.parent.glob("*.png")):
            boxes = rows.loc[rows["image"] == file.name, ["left", "top", "width", "height"]]
            found.append((read_image(file), [tuple(box) for box in boxes.to_numpy()]))
    return found


def test_cells_of_painted_slides_are_found_and_little_else(fields):
    found = [find_cells(image) for image, _ in fields]
    right = sum(matched(one, boxes) for one, (_, boxes) in zip(found, fields, strict=True))
    assert right >= 0.93 * 60
    assert right >= 0.9 * sum(map(len, found))


def test_boxes_have_the_size_of_the_cells(fields):
    ratios = []
    for image, boxes in fields:
        for cell in find_cells(image):
            ratios += [cell.diameter / np.sqrt(w * h) for a, b, w, h in boxes if matched([cell], [(a, b, w, h)])]
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_size_of_the_picture_does_not_matter(fields, factor):
    image, boxes = max(fields, key=lambda field: len(field[1]))
    scaled = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    found, before = find_cells(scaled), find_cells(image)
    assert matched(found, [tuple(factor * side for side in box) for box in boxes]) >= len(before) - 1
    assert abs(len(found) - len(before)) <= 1


@pytest.mark.parametrize("margin", [0, 160])
def test_a_cell_of_any_size_is_found_once(margin):
    """Which sides of a picture are looked at depends on the size of its cells: none falls between two."""
    for seed, label in enumerate(CLASSES):
        picture, box = paint_photograph(label, np.random.default_rng(seed))
        picture = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), "edge")
        for factor in (0.4, 0.8, 1.4, 2):
            left, top, right, bottom = (factor * (side + margin) for side in box)
            (cell,) = find_cells(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
            assert matched([cell], [(left, top, right - left, bottom - top)]) == 1


def test_small_cells_have_no_large_boxes(fields):
    """At a shorter side of the picture the net cannot tell cells that are small at a longer one."""
    right = said = painted = 0
    for start in range(0, len(fields) - 3, 4):
        part = fields[start : start + 4]
        (a, b), (c, d) = [[image for image, _ in part[i : i + 2]] for i in (0, 2)]
        image = np.vstack([np.hstack([a, b]), np.hstack([c, d])])
        boxes = [(x + 640 * (i % 2), y + 480 * (i // 2), w, h) for i, (_, own) in enumerate(part) for x, y, w, h in own]
        found = find_cells(image)
        right, said, painted = right + matched(found, boxes), said + len(found), painted + len(boxes)
    assert right >= 0.93 * painted
    assert right >= 0.95 * said


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(480, 640), (1, 1), (3, 900)])
def test_an_empty_picture_has_no_cell(level, shape):
    assert find_cells(np.full((*shape, 3), level, np.uint8)) == []


def test_a_cell_that_the_border_cuts_is_marked(fields):
    whole = [(image, cell) for image, _ in fields for cell in find_cells(image) if not cell.border][:12]
    marked = 0
    for image, cell in whole:
        cut = np.ascontiguousarray(image[:, round(cell.left + 0.2 * cell.width) :])
        left = [
            one for one in find_cells(cut) if one.left == 0 and abs(one.centre[1] - cell.centre[1]) < cell.height / 2
        ]
        assert all(one.border for one in left)
        marked += bool(left)
    assert marked >= 9


def test_threads_find_the_same(fields):
    images = [image for image, _ in fields[:8]]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find_cells, images)) == [find_cells(image) for image in images]


def test_one_box_is_left_of_those_of_one_cell_and_the_surest():
    boxes = [Cell(10, 10, 40, 40, 0.6), Cell(12, 11, 40, 42, 0.9), Cell(20, 20, 20, 20, 0.5), Cell(45, 10, 40, 40, 0.4)]
    assert _merged(boxes) == [boxes[1], boxes[3]]


@pytest.mark.parametrize(("left", "cells"), [(30, 1), (38, 1), (40, 2), (60, 2)])
def test_a_small_box_that_lies_for_the_most_part_in_a_surer_one_is_a_part_of_that_cell(left, cells):
    assert len(_merged([Cell(10, 10, 40, 40, 0.9), Cell(left, 12, 16, 16, 0.6)])) == cells


def test_a_large_box_around_a_surer_small_one_is_a_cell_of_its_own():
    boxes = [Cell(10, 10, 16, 16, 0.9), Cell(8, 8, 60, 60, 0.6)]
    assert _merged(boxes) == boxes


def nuclei(cells, levels):
    """Return a picture, uint8 (200, 400, 3), with cells of some levels of grey."""
    picture = np.full((200, 400, 3), 220, np.uint8)
    for cell, level in zip(cells, levels, strict=True):
        left, top, width, height = cell.box
        picture[top : top + height, left : left + width] = level
    return picture


def test_what_is_much_smaller_than_the_surest_cell_is_none():
    cell, platelet, small = Cell(50, 50, 60, 60, 0.9), Cell(150, 40, 20, 20, 0.8), Cell(150, 90, 28, 30, 0.6)
    cut = Cell(0, 90, 12, 30, 0.7, border=True)
    cells = [cell, platelet, small, cut]
    assert _likely(cells, nuclei(cells, [60] * 4), 400) == [cell, small, cut]
    assert _likely([platelet], nuclei(cells, [60] * 4), 400) == [platelet]


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_much_paler_than_the_nuclei_of_its_picture_is_none(scale):
    cell, pale, red, doubtful = (
        Cell(left, 50, 60, 60, score) for left, score in ((20, 0.8), (100, 0.6), (180, 0.6), (260, 0.45))
    )
    cells = [cell, pale, red, doubtful]
    picture = nuclei(cells, [60, 80, 140, 60])
    large = [Cell(*(scale * side for side in (one.left, 50, 60, 60)), one.score) for one in cells]
    assert _likely(large, picture, 400 * scale) == [large[0], large[1]]


def test_in_a_picture_without_a_sure_cell_none_is_likely():
    cells = [Cell(20, 50, 60, 60, 0.49), Cell(100, 50, 60, 60, 0.45)]
    assert _likely(cells, nuclei(cells, [60, 60]), 400) == []
    assert _likely([], nuclei([], []), 400) == []


def test_haze_hides_no_cell(fields):
    """Of a field through haze, the same cells are found."""
    clear = [image for image, boxes in fields if boxes]
    hazy = [np.asarray(0.5 * image + 0.5 * np.percentile(image, 90, (0, 1)), np.uint8) for image in clear]
    found, before = (sum(len(find_cells(image)) for image in images) for images in (hazy, clear))
    assert found >= 0.94 * before


@pytest.mark.parametrize(("file", "most"), [(MODEL, 1_600_000), (one_cell.MODEL, 600_000)])
def test_the_card_is_that_of_the_nets(file, most):
    assert hashlib.sha256(file.read_bytes()).hexdigest() in MODEL.with_suffix(".md").read_text(encoding="utf-8")
    assert file.stat().st_size < most
    assert b".py" not in file.read_bytes()  # paths of the machine that made it


def test_squares_of_older_checkpoints_stay():
    """They were trained on what this net cuts out."""
    digest = "1de1fcaa77f78ed7f21aa0c68e45c8c8c309671c337d652a533a530629e31b90"
    assert hashlib.sha256(one_cell.MODEL.read_bytes()).hexdigest() == digest
