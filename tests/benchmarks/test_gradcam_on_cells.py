"""What the benchmark of Grad-CAM measures with: the disc of the cell in the net's input, the peak, and the figures."""

import cv2
import numpy as np
import pytest

from bloodcell.data.cell_finder import locate
from bloodcell.data.preprocessing import Preprocessing
from tests.benchmarks.gradcam_on_cells import disc, peak, report


@pytest.fixture
def smear():
    """Return a smear of 160 x 120 with a nucleus at (110, 60), of 40 pixels."""
    pixels = np.full((120, 160, 3), (225, 200, 205), np.uint8)
    return cv2.circle(pixels, (110, 60), 20, (90, 50, 140), -1)


@pytest.mark.parametrize("crop", ["none", "cell"])
def test_the_disc_lies_on_the_nucleus_as_the_net_sees_it(smear, crop):
    preprocessing, cell = Preprocessing(64, crop=crop), locate(smear)
    dark = preprocessing.pixels(smear)[..., 1] < 125
    found = disc(smear, preprocessing, cell, 1.0)
    assert (found != dark).sum() < 0.1 * dark.sum()
    taken = 160 * 120 if crop == "none" else (2 * cell.diameter) ** 2
    share = np.pi / 4 * (1.5 * cell.diameter) ** 2 / taken
    assert disc(smear, preprocessing, cell, 1.5).mean() == pytest.approx(share, rel=0.03)


def test_the_peak_of_a_plateau_is_its_middle():
    seen = np.zeros((8, 8))
    seen[0:3, 5:8] = 1
    assert peak(seen) == (1, 6)


def test_figures_by_hand(capsys):
    maps, discs = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)
    maps[0, 0, 0], maps[0, 3, 3], maps[1, 2, 1] = 1.0, 0.5, 1.0
    discs[0, 0, :2] = discs[1, 0, :2] = True  # 2 of 16; the first peak lies in both
    report(maps, discs)
    said = capsys.readouterr().out
    assert "peak in the cell: 50.0%; by chance (share of the area): 12.5%" in said
    assert "ratio: 4.00 (95 % interval 0.00 to 8.00; at most 8.00)" in said
    assert "peak in another image's cell: 50.0%" in said
    assert "share of the map in the cell: 33.3%; maps that are 0 everywhere: 0" in said
