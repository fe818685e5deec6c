"""Painted slides: the truth about them is that of the pictures, and the same seed gives the same bytes."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from bloodcell.data.synthetic import fields, painter, slides
from bloodcell.data.synthetic.painter import CLASSES
from bloodcell.data.synthetic.slides import paint_slides, plan_slide
from bloodcell.runtime.errors import BloodcellError

SHARES = {"LYMPHOCYTE": 0.4, "NEUTROPHIL": 0.6}


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painted")
    assert paint_slides(folder, slides=2, cells=9, seed=4) == len(list(folder.glob("slide_*/*.png")))
    return folder


def contents(folder):
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def test_another_process_paints_the_same_bytes(painted, tmp_path):
    words = ["-m", "bloodcell", "paint", f"output={tmp_path / 'again'}", "slides=2", "cells=9", "seed=4"]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, env=environment)
    assert "18 white cells in " in done.stdout
    assert contents(tmp_path / "again") == contents(painted)


def test_neither_threads_nor_further_slides_change_a_slide(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "cpu_count", lambda: 1)
    paint_slides(tmp_path, slides=1, cells=9, seed=4)
    assert contents(tmp_path / "slide_01") == contents(painted / "slide_01")
    assert contents(painted / "slide_02") != contents(painted / "slide_01")


def test_another_seed_paints_other_pictures(painted, tmp_path):
    paint_slides(tmp_path, slides=1, cells=1, seed=5)
    name = "slide_01/field_001.png"
    assert contents(tmp_path)[name] != contents(painted)[name]


def test_tables_agree_with_the_files_and_with_each_other(painted):
    truth = pd.read_csv(painted / "slides.csv")
    assert list(truth) == ["slide", "class", "cells", "share"]
    assert list(truth["class"]) == 2 * list(CLASSES)
    assert truth.groupby("slide").share.sum().to_numpy() == pytest.approx(1, abs=1e-5)
    assert truth.groupby("slide").cells.sum().to_dict() == {"slide_01": 9, "slide_02": 9}
    for name, rows in truth.groupby("slide"):
        boxes = pd.read_csv(painted / name / "boxes.csv")
        assert list(boxes) == ["image", "label", "left", "top", "width", "height", "border"]
        counted = boxes.label.value_counts().reindex(rows["class"], fill_value=0)
        assert list(counted) == list(rows.cells)
        assert set(boxes.image) <= {path.name for path in (painted / name).glob("*.png")}
        assert [boxes[key].dtype.kind for key in ("left", "width", "border")] == ["i", "i", "b"]


def test_a_picture_is_that_of_its_boxes(painted):
    plan = plan_slide(0, 9, None, 4)
    picture, boxes = fields.paint_field(plan.slide, plan.fields[0], np.random.default_rng([*plan.seed, 1]))
    written = cv2.imread(str(painted / "slide_01" / "field_001.png"))[..., ::-1]
    assert np.array_equal(written, picture)
    rows = pd.read_csv(painted / "slide_01" / "boxes.csv").query("image == 'field_001.png'")
    assert [(box.left, box.top, box.width, box.height, box.border) for box in boxes] == [
        tuple(row) for row in rows[["left", "top", "width", "height", "border"]].itertuples(index=False)
    ]


def with_and_without(slide, cells):
    """Return a field's picture, that of its ground alone, and the boxes."""
    ground = fields.paint_ground(slide, cells, np.random.default_rng(1))
    whole = ground.copy()
    boxes = fields.add_cells(whole, slide, cells, np.random.default_rng(2))
    pictures = (fields.take_picture(one, slide, np.random.default_rng(3)) for one in (whole, ground))
    return *(picture.astype(int) for picture in pictures), boxes


@pytest.mark.parametrize("number", range(6))
def test_what_cells_add_to_a_picture_lies_in_their_boxes(number):
    plan = plan_slide(number, 12, None, 0)
    cells = max(plan.fields, key=len)
    whole, ground, boxes = with_and_without(plan.slide, cells)
    assert len(boxes) == len(cells) >= 2
    changed = np.abs(whole - ground).max(axis=2) > 20
    nucleus = changed & (whole[..., 2] - whole[..., 1] > 45)
    outside, around = nucleus.copy(), changed.copy()
    for cell, box in zip(cells, boxes, strict=True):
        x, y, right, bottom = (int(one) for one in (box.left, box.top, box.left + box.width, box.top + box.height))
        assert box.left <= cell.x < right
        assert box.top <= cell.y < bottom
        assert changed[y:bottom, x:right].mean() > 0.5
        assert nucleus[y:bottom, x:right].mean() > (0.02 if box.border else 0.1)
        outside[y:bottom, x:right] = False
        around[max(y - 5, 0) : bottom + 5, max(x - 5, 0) : right + 5] = False  # the blur
    assert outside.sum() <= 0.005 * nucleus.sum()
    assert not around.any()


def test_cells_are_painted_as_in_the_smears_of_one_cell():
    slide = replace(plan_slide(0, 1, None, 0).slide, magnification=1.0)
    density = np.zeros((*slide.shape, 3), np.float32)
    cell = fields.WhiteCell("EOSINOPHIL", 320, 240, 50)
    fields.add_cells(density, slide, [cell], np.random.default_rng(1))
    wanted, cover = painter.white_cell(painter.LOOKS["EOSINOPHIL"], slide.stain, 50, np.random.default_rng(1))
    half = len(cover) // 2
    y, x = 240 + slide.pad, 320 + slide.pad
    assert np.array_equal(density[y - half : y + half + 1, x - half : x + half + 1], wanted)
    assert density.sum() == pytest.approx(wanted.sum(), rel=1e-4)


def test_a_field_without_cells_has_no_box():
    slide = plan_slide(0, 1, None, 0).slide
    picture, boxes = fields.paint_field(slide, [], np.random.default_rng(0))
    assert (picture.shape, picture.dtype, boxes) == ((480, 640, 3), np.uint8, [])


def test_a_cell_is_cut_by_the_border_or_by_the_eyepiece():
    slide = replace(plan_slide(0, 1, None, 0).slide, magnification=0.5, eyepiece=(320.0, 240.0, 230.0))
    cells = [fields.WhiteCell("LYMPHOCYTE", x, 240, 20) for x in (320, 320 - 225)]
    picture, boxes = fields.paint_field(slide, cells, np.random.default_rng(0))
    assert [box.border for box in boxes] == [False, True]
    assert (boxes[0].width, boxes[0].height) == pytest.approx((40, 40), abs=6)
    assert boxes[1].left == 91  # the first column that is lit more than half
    assert picture[:, :88].max() < 10
    assert picture[240, 100:540].min() > 15
    slide, cell = replace(slide, eyepiece=None), replace(cells[0], x=630)
    _, [box] = fields.paint_field(slide, [cell], np.random.default_rng(0))
    assert (box.border, box.left + box.width) == (True, 640)


def test_nuclei_have_20_to_90_pixels():
    slide = replace(plan_slide(0, 1, None, 0).slide, eyepiece=None)
    for magnification, wanted in zip(fields.MAGNIFICATION, (20, 90), strict=True):
        found = [nuclear_diameter(replace(slide, magnification=magnification), label) for label in CLASSES]
        assert np.mean(found) == pytest.approx(wanted, rel=0.1)


def nuclear_diameter(slide, label):
    """Return the mean diameter of the circles with the area of the nuclei's convex hulls, pixels."""
    rng, found = np.random.default_rng(0), []
    for _ in range(5):
        density = np.zeros((*slide.shape, 3), np.float32)
        cells = fields.place_cells([label], slide, rng)
        fields.add_cells(density, slide, [replace(one, x=320, y=240) for one in cells], rng)
        stained = (density > 0.7 * slide.stain.purple)[..., :2].all(axis=2)  # eosin absorbs no red
        hull = cv2.convexHull(cv2.findNonZero(stained.astype(np.uint8)))
        found.append(2 * np.sqrt(cv2.contourArea(hull) / np.pi))
    return np.mean(found)


@pytest.mark.parametrize("shares", [None, SHARES])
def test_shares_of_the_cells_converge_to_the_true_ones(shares):
    plans = [plan_slide(number, 2000, shares, 0) for number in range(2)]
    for plan in plans:
        for _, label, cells, share in plan.truth():
            assert abs(cells / 2000 - share) <= 4 * np.sqrt(share * (1 - share) / 2000)
            assert shares is None or share == shares.get(label, 0)
    assert (plans[0].shares == plans[1].shares) is (shares is not None)


def test_slides_and_their_fields_differ():
    plans = [plan_slide(number, 60, None, 0) for number in range(24)]
    numbers = [len(cells) for plan in plans for cells in plan.fields]
    assert set(numbers) == set(range(fields.MOST + 1))
    assert 2 <= sum(plan.slide.eyepiece is not None for plan in plans) <= 14
    magnifications = [plan.slide.magnification for plan in plans]
    assert min(magnifications) < 0.4 < 0.8 < max(magnifications) <= fields.MAGNIFICATION[1]
    gaps = np.array([gap(cells) for plan in plans for cells in plan.fields if len(cells) > 1])
    assert gaps.min() >= fields.TOUCH
    assert 0.1 < (gaps < 1).mean() < 0.5


def gap(cells):
    """Return the least distance of two cells of a field, in sums of their radii."""
    pairs = [(one, other) for number, one in enumerate(cells) for other in cells[:number]]
    return min(np.hypot(one.x - other.x, one.y - other.y) / (one.radius + other.radius) for one, other in pairs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("output=null", "output is not set; name a new folder with output=FOLDER"),
        ("slides=0", "slides=0; give a whole number of 1 or more"),
        ("seed=-1", "seed=-1; give a whole number"),
        ("shares={NEUTROPHIL: 0.5}", "shares={'NEUTROPHIL': 0.5}; give shares that add up to 1"),
        ("shares={NEUTROPHIL: -1, MONOCYTE: 2}", "give shares that add up to 1"),
        ("shares=much", "shares=much; give shares that add up to 1, e.g. {LYMPHOCYTE"),
        ("shares={BASOPHIL: 1}", "shares: no class BASOPHIL; the classes are EOSINOPHIL, LYMPHOCYTE"),
    ],
)
def test_wrong_settings_are_refused(compose, tmp_path, wrong, message):
    with pytest.raises(BloodcellError, match=re.escape(message)):
        slides.run(compose(f"output={tmp_path / 'new'}", wrong, verb="paint"))
    assert not list(tmp_path.rglob("*.png"))


def test_a_folder_with_something_else_is_refused(compose, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(BloodcellError, match="is not empty; new results need a new folder: choose another output"):
        slides.run(compose(f"output={tmp_path}", verb="paint"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_named_and_the_same_command_goes_on(compose, tmp_path, monkeypatch):
    def full(file, picture):
        raise OSError(28, "No space left on device")

    cfg = compose(f"output={tmp_path / 'new'}", "slides=1", "cells=1", verb="paint")
    with monkeypatch.context() as patch:
        patch.setattr(slides, "_write_png", full)
        with pytest.raises(BloodcellError, match=r"cannot write to .*new: No space left on device; choose another"):
            slides.run(cfg)
    slides.run(cfg)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"slide_01", "slides.csv"}
