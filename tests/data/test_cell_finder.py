"""Finding the white cell: synthetic photographs with known boxes, and images without a cell."""

import cv2
import numpy as np
import pytest

from bloodcell.data import cell_finder
from bloodcell.data.cell_finder import Nucleus, cut, locate
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph


@pytest.mark.parametrize("label", CLASSES)
def test_the_centre_lies_in_the_painted_box(label):
    inside = 0
    for seed in range(25):
        picture, (x0, y0, x1, y1) = paint_photograph(label, np.random.default_rng(seed))
        cell = locate(picture)
        inside += cell is not None and x0 <= cell.x < x1 and y0 <= cell.y < y1
    assert inside >= 24


def smear(size=(240, 320)):
    return np.full((*size, 3), (225, 200, 205), np.uint8)


def nucleus(picture, x, y, radius):
    cv2.circle(picture, (x, y), radius, (90, 50, 140), -1)
    return picture


def test_centre_and_diameter_are_those_of_the_nucleus():
    cell = locate(nucleus(smear(), 200, 100, 30))
    assert (cell.x, cell.y) == pytest.approx((200, 100), abs=1)
    assert cell.diameter == pytest.approx(61, abs=2)


@pytest.mark.parametrize("factor", [0.5, 2, 3.7])
def test_diameter_scales_with_magnification(factor):
    picture = nucleus(smear(), 200, 100, 30)
    larger = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    assert locate(larger).diameter == pytest.approx(factor * locate(picture).diameter, rel=0.05)


def test_lobes_are_one_nucleus_and_a_neighbour_is_another():
    lobes = nucleus(nucleus(nucleus(smear(), 150, 110, 16), 176, 122, 14), 158, 142, 15)
    cell = locate(lobes)
    assert (cell.x, cell.y) == pytest.approx((161, 124), abs=3)
    assert cell.diameter > 50
    beside = locate(nucleus(nucleus(smear(), 160, 120, 25), 290, 30, 25))
    assert (beside.x, beside.y) == pytest.approx((160, 120), abs=1)  # the central one of two equal nuclei


def test_platelets_and_red_cells_are_not_nuclei():
    picture = nucleus(nucleus(smear(), 50, 60, 4), 200, 100, 30)
    cv2.circle(picture, (100, 150), 40, (200, 130, 135), -1)
    assert locate(picture).x == pytest.approx(200, abs=1)
    without = smear()
    cv2.circle(without, (100, 150), 40, (200, 130, 135), -1)
    assert locate(without) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 5), (300, 40)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_images_without_a_cell(shape, value):
    assert locate(np.full((*shape, 3), value, np.uint8)) is None


def test_the_cell_is_found_in_a_rotated_copy_with_black_corners():
    picture = nucleus(smear(), 200, 100, 30)
    turn = cv2.getRotationMatrix2D((160, 120), 20, 1)
    cell = locate(cv2.warpAffine(picture, turn, (320, 240)))
    assert (cell.x, cell.y) == pytest.approx(tuple(turn @ [200, 100, 1]), abs=2)


def test_a_square_is_moved_into_the_image_and_a_larger_one_is_filled_by_reflection():
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    assert np.array_equal(cut(picture, 2, 1, 3), picture[1:4, 2:5])
    assert np.array_equal(cut(picture, -2, 5, 3), picture[3:6, 0:3])
    larger = cut(picture, 0, 0, 10)
    assert larger.shape == (10, 10, 3)
    assert np.array_equal(larger[2:8, 1:9], picture)
    assert np.array_equal(larger[1, 1:9], picture[0])


def test_the_crop_is_part_of_the_preprocessing():
    picture = nucleus(smear(), 60, 60, 20)
    whole, cell = Preprocessing(64), Preprocessing(64, crop="cell", crop_size=2.0)
    shares = [(pre.pixels(picture)[..., 1] < 100).mean() for pre in (whole, cell)]
    assert shares[0] == pytest.approx(np.pi * 20**2 / (240 * 320), rel=0.1)
    assert shares[1] == pytest.approx(np.pi / 16, rel=0.1)
    blank = smear()
    assert np.array_equal(cell.pixels(blank), whole.pixels(blank))
    assert Preprocessing(**cell.as_dict()) == cell


def simple_nuclei(mask):
    """Return the result of `_nuclei`, with each step on the whole image and all pixels of each nucleus."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas, least = stats[1:, cv2.CC_STAT_AREA].astype(float), 0.0025 * mask.size
    if count == 1 or areas.max() < least:
        return []
    kept = np.isin(labels, 1 + np.flatnonzero(areas >= max(0.05 * areas.max(), 0.2 * least)))
    reach = max(1, round(0.35 * np.sqrt(areas.max() / np.pi)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    number, groups = cv2.connectedComponents(cv2.dilate(kept.astype(np.uint8), kernel))
    found = []
    for group in range(1, number):
        rows, columns = np.nonzero(kept & (groups == group))
        hull = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.int32))
        area = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
        found.append(Nucleus(float(columns.mean()), float(rows.mean()), float(2 * np.sqrt(area / np.pi))))
    return [nucleus for nucleus in found if nucleus.diameter**2 * np.pi / 4 >= least]


def test_nuclei_are_identical_to_those_of_the_simple_algorithm():
    generator, numbers = np.random.default_rng(0), []
    for number in range(300):
        mask = np.zeros(generator.integers(1, 160, 2), np.uint8)
        for _ in range(generator.integers(0, 9)):
            middle, axes = generator.integers(-10, 170, 2).tolist(), generator.integers(1, 30, 2).tolist()
            cv2.ellipse(mask, middle, axes, float(generator.integers(180)), 0, 360, 1, -1)
        if number % 3 == 0:  # specks and holes
            mask ^= (generator.random(mask.shape) < 0.02).astype(np.uint8)
        expected = simple_nuclei(mask.astype(bool))
        assert cell_finder._nuclei(mask.astype(bool)) == expected
        numbers.append(len(expected))
    assert {0, 1, 2, 3} <= set(numbers)
