"""The square around each of several cells: as the net's training images show theirs."""

import numpy as np
import pytest

from bloodcell.data.cell_finder import cut, locate
from bloodcell.data.cells import CELL, Cell, doubtful, find_cells
from bloodcell.data.preprocessing import EXTENT, Preprocessing
from bloodcell.runtime.errors import BloodcellError
from tests.data.test_cell_finder import nucleus, smear
from tests.painted import field

WHOLE, CROPS = Preprocessing(64, extent=3.0), Preprocessing(64, crop="cell", crop_size=2.0)


def test_boxes_have_whole_pixels_and_know_what_they_hold():
    cell = Cell(10.4, 20.6, 30.2, 39.9)
    assert cell.box == (10, 21, 31, 39)
    assert cell.holds(11, 21)
    assert not cell.holds(11, 61)
    assert not cell.holds(9, 30)


def test_a_net_of_whole_images_sees_the_extent_of_its_training_images():
    cell = Cell(300, 200, 60, 60)
    picture = smear((480, 640))
    assert WHOLE.square_around(picture, cell) == (330 - 90, 230 - 90, 180)
    assert Preprocessing(64).square_around(picture, cell)[2] == EXTENT * 60
    assert WHOLE.square_around(picture, Cell(0, 0, 60, 60)) == (0, 0, 180)  # moved inside


def test_a_net_of_cells_sees_the_square_that_it_sees_in_a_picture_of_one():
    picture = field(0)
    cells = find_cells(picture)
    assert len(cells) >= 3
    for cell in cells:
        left, top = (320 * (cell.centre[0] >= 320), 240 * (cell.centre[1] >= 240))
        alone = CROPS.square(picture[top : top + 240, left : left + 320])
        x, y, side = CROPS.square_around(picture, cell)
        assert side == pytest.approx(alone[2], rel=0.1)
        middle = x + side / 2 - left, y + side / 2 - top
        assert middle == pytest.approx((alone[0] + alone[2] / 2, alone[1] + alone[2] / 2), abs=0.1 * side + 10)


def test_a_larger_neighbour_is_not_taken_for_the_cell():
    picture, small = nucleus(nucleus(smear((480, 640)), 300, 200, 15), 380, 200, 40), Cell(265, 165, 70, 70)
    assert 230 + locate(cut(picture, 230, 130, 140)).x > 340  # of two diameters around it, the neighbour is the larger
    x, y, side = CROPS.square_around(picture, small)
    assert (x + side / 2, y + side / 2) == pytest.approx((300, 200), abs=2)
    assert side == round(2.0 * 70 / CELL)


def test_without_a_nucleus_its_usual_share_of_the_cell_is_taken():
    x, y, side = CROPS.square_around(smear((480, 640)), Cell(300, 200, 68, 68))
    assert side == round(2.0 * 68 / CELL)
    assert (x, y) == (round(334 - side / 2), round(234 - side / 2))


def test_pixels_are_those_of_the_square():
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    ((pixels, square),) = WHOLE.cut_cells(picture, [Cell(300, 200, 60, 60)])
    left, top, side = square
    assert np.array_equal(
        pixels, Preprocessing(64).pixels(np.ascontiguousarray(picture[top : top + side, left : left + side]))
    )
    assert WHOLE.cut_cells(picture, []) == []


def test_the_extent_is_kept_if_it_is_known_and_belongs_to_no_whole_image():
    assert Preprocessing(**WHOLE.as_dict()) == WHOLE
    assert "extent" not in Preprocessing(64).as_dict()
    assert WHOLE.of_whole_images() == Preprocessing(64)
    with pytest.raises(BloodcellError, match="extent=-1 is no size of training images"):
        Preprocessing(64, extent=-1)


def test_one_sure_cell_makes_a_picture_blood():
    faint, sure = Cell(0, 0, 20, 20, 0.59), Cell(40, 0, 20, 20, 0.6)
    assert doubtful([faint])
    assert doubtful([faint, faint])
    assert not doubtful([faint, sure])
