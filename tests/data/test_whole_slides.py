"""Which files are whole slides, how they are read, and that broken or hostile ones are refused in a line."""

import sys

import cv2
import numpy as np
import pytest
import tifffile

from bloodcell.data import whole_slides
from bloodcell.data.image_limits import ImageError
from bloodcell.data.slide_tiles import CORE, SIDES, USUAL, cells_of, plan_of
from bloodcell.data.whole_slides import is_whole_slide, opened, require_reader
from bloodcell.runtime.errors import BloodcellError
from tests.painted import DIAMETER, known_field, whole_slide, write_slide


@pytest.fixture(scope="module")
def picture():
    return whole_slide(1500)[0]


def test_a_tiff_file_with_levels_is_a_whole_slide_unless_it_is_small(picture, tmp_path):
    assert is_whole_slide(write_slide(tmp_path / "slide.tif", picture))
    assert not is_whole_slide(write_slide(tmp_path / "small.tif", picture[:1024, :1024]))
    assert not is_whole_slide(write_slide(tmp_path / "flat.tif", picture, levels=1))
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([picture, picture // 2]), photometric="rgb")
    assert not is_whole_slide(tmp_path / "pages.tif")
    with tifffile.TiffWriter(tmp_path / "nested.ome.tif") as file:
        file.write(picture, tile=(256, 256), photometric="rgb", subifds=1)
        file.write(picture[::2, ::2], tile=(256, 256), photometric="rgb", subfiletype=1)
    assert is_whole_slide(tmp_path / "nested.ome.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(50))
    assert not is_whole_slide(tmp_path / "broken.tif")
    assert not is_whole_slide(tmp_path / "none.png")
    assert is_whole_slide("a.SVS")
    assert is_whole_slide("a.ndpi")


def test_levels_parts_and_overview_show_the_picture(picture, tmp_path):
    slide = opened(str(write_slide(tmp_path / "slide.tif", picture)))
    assert slide.sizes == [(1500, 1500), (750, 750), (375, 375)]
    assert slide.microns == pytest.approx(13 / DIAMETER, rel=1e-3)
    np.testing.assert_array_equal(slide.read(0, 100, 200, 300, 50), picture[200:250, 100:400])
    assert (slide.read(0, 1450, 0, 100, 10)[:, 50:] == 255).all()  # beyond the slide
    seen = slide.overview(200)
    assert seen.shape == (200, 200, 3)
    expected = cv2.resize(picture, (200, 200), interpolation=cv2.INTER_AREA)
    assert abs(seen.astype(int) - expected).mean() < 3
    assert slide.overview(200, most=1000) is None


def test_the_level_is_the_smallest_whose_cells_are_as_large_as_the_net_wants(picture, tmp_path):
    large = str(write_slide(tmp_path / "large.tif", picture, microns=13 / 200))
    assert [plan_of(large, wanted, 1).level for wanted in (10, 60, 150, 300)] == [2, 1, 0, 0]
    plan = plan_of(str(write_slide(tmp_path / "slide.tif", picture)), 10, 1)
    assert plan.level == 0
    assert plan.diameter == pytest.approx(DIAMETER, rel=1e-3)
    assert 2 * plan.margin > plan.diameter
    side = max(CORE * plan.diameter, SIDES[0])
    assert all(right - left <= side and bottom - top <= side for left, top, right, bottom in plan.tiles)
    covered = np.zeros(plan.size[::-1], int)
    for left, top, right, bottom in plan.tiles:
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("microns", [None, 13 / DIAMETER / 1000, 25_400 / 72])
def test_cells_are_measured_if_the_resolution_is_none_of_a_microscope(picture, tmp_path, microns):
    plan = plan_of(str(write_slide(tmp_path / "slide.tif", picture, microns=microns)), 40, 1)
    assert plan.diameter == pytest.approx(DIAMETER, rel=0.15)
    assert "were measured" in plan.measured


def test_tiles_that_show_nothing_are_left_out(picture, tmp_path):
    half = picture.copy()
    half[:, :800] = (231, 226, 233)
    plan = plan_of(str(write_slide(tmp_path / "half.tif", half)), 40, 1)
    assert (plan.all_tiles, len(plan.tiles)) == (4, 2)
    assert all(left > 0 for left, *_ in plan.tiles)
    nothing = str(write_slide(tmp_path / "nothing.tif", np.full_like(picture, 230), microns=None))
    plan = plan_of(nothing, 40, 1)
    assert (plan.tiles, plan.diameter) == ((), USUAL)
    assert list(cells_of(plan, plan.tiles)) == []


def test_broken_and_hostile_files_are_refused_in_a_line(picture, tmp_path, monkeypatch):
    small = np.ascontiguousarray(picture[:300, :300])

    def refusal(name, write):
        file = tmp_path / name
        write(file)
        with pytest.raises(ImageError) as caught:
            plan_of(str(file), 40, 1)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "not a whole-slide file" in refusal("text.svs", lambda file: file.write_text("no slide"))
    assert "not a whole-slide file" in refusal("empty.ndpi", lambda file: file.touch())
    assert "no such file" in refusal("none.svs", lambda file: None).lower()
    assert "not a regular file" in refusal("folder.svs", lambda file: file.mkdir())
    write = tifffile.imwrite
    assert "of a kind that OpenSlide reads" in refusal("strips.svs", lambda file: write(file, small, photometric="rgb"))
    deep = {"photometric": "rgb", "tile": (64, 64)}
    assert "16 bits" in refusal("deep.svs", lambda file: write(file, small.astype(np.uint16), **deep))
    pages = np.zeros((65, 16, 16), np.uint8)
    assert "more than 64 pages" in refusal("pages.svs", lambda file: write(file, pages, photometric="minisblack"))
    monkeypatch.setattr(whole_slides, "MOST_OF_TILE", 1000)
    assert "tiles of 64 x 64" in refusal("tiles.svs", lambda file: write(file, small, **deep))
    monkeypatch.setattr(whole_slides, "MOST_SIDE", 200)
    assert "300 x 300 pixels; the limits are" in refusal("large.svs", lambda file: write(file, small, **deep))


def test_without_the_extra_a_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(
        BloodcellError, match=r"^a\.svs: whole-slide files need OpenSlide: pip install 'bloodcell\[slid"
    ):
        require_reader("a.svs")


def test_a_painted_cell_lies_where_it_is_said_to_be():
    picture, boxes = known_field(0)
    assert all(x > 0 and y > 0 and x + w < 640 and y + h < 480 for x, y, w, h in boxes)
    assert np.mean([picture[y + h // 2, x + w // 2, 1] for x, y, w, h in boxes]) < picture[..., 1].mean()
