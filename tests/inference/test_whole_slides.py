"""Whole slides: one table of all cells, each once, whatever interrupts it."""

import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile
from PIL import Image

import bloodcell
from bloodcell.evaluation.differentials.count import count
from bloodcell.inference.fields import slide_parts
from bloodcell.inference.fields.files import field_files
from bloodcell.inference.predict import predict
from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import DifferentialConfig
from tests.painted import field, whole_slide, write_slide

#: Side of the slide, and where its tiles meet.
SIDE, SEAM = 1500, 750
#: Bytes that a prediction may take, with all libraries.
MOST = 1.5e9

#: Predicts, and writes the most memory that it had, kilobytes: what the kernel tells of a child counts its parent's.
MEASURED = """
import atexit, pathlib, re
from bloodcell.cli import main
def measure():
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("memory.txt").write_text(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
atexit.register(measure)
main("predict")
"""

#: Predicts, and is killed with half of a part written.
KILLED = """
import os, signal
from bloodcell.cli import main
sync = os.fsync
def cut_off(number):
    sync(number)
    if os.path.exists("out.state.json") and '"steps": 9,' in open("out.state.json").read():
        if os.fstat(number).st_ino == os.stat("out.csv").st_ino:
            os.truncate("out.csv", os.path.getsize("out.csv") - 20)
            os.kill(os.getpid(), signal.SIGKILL)
os.fsync = cut_off
main("predict")
"""


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Write a slide with the centre of a cell where four tiles meet, and return it with its cells, this one first."""
    _, cells = whole_slide(SIDE)
    middle = min(cells, key=lambda cell: np.hypot(*(np.array(cell.centre) - SEAM)))
    roll = tuple(round(SEAM - place) for place in middle.centre)
    picture, cells = whole_slide(SIDE, roll=roll)
    cells.sort(key=lambda cell: np.hypot(*(np.array(cell.centre) - SEAM)))
    assert np.hypot(*(np.array(cells[0].centre) - SEAM)) < 1
    return write_slide(tmp_path_factory.mktemp("slides") / "slide.tif", picture), cells


@pytest.fixture
def predicted(compose, learnt_run, tmp_path, monkeypatch):
    """Predict in this process, a tile a part: predicted(images, "cells=all") -> (table, counts)."""
    monkeypatch.setattr(slide_parts, "TILES", 1)

    def run(images, *overrides, name="out.csv"):
        cfg = compose(f"checkpoint={learnt_run}", f"output={tmp_path / name}", "device=cpu", *overrides, verb="predict")
        cfg.images = [str(one) for one in images] if isinstance(images, list) else str(images)
        counts = predict(cfg)
        return pd.read_csv(tmp_path / name, keep_default_na=False), counts

    return run


def rows_of(table, cell):
    """Return the numbers of the rows whose centre lies in the box of a painted cell."""
    x, y = table["left"] + table["width"] / 2, table["top"] + table["height"] / 2
    return list(table["number"][[cell.holds(*place) for place in zip(x, y, strict=True)]])


def test_each_cell_of_a_slide_has_one_row_at_a_seam_too(slide, predicted, tmp_path, capsys):
    file, cells = slide
    folders = [f"{name}={tmp_path / name}" for name in ("overlays", "geojson", "rois")]
    table, counts = predicted(file.parent, *folders)
    found = [len(rows_of(table, cell)) for cell in cells]
    assert found[0] == 1  # in all four tiles
    assert max(found) == 1
    assert np.mean(found) > 0.9
    assert list(table["number"]) == list(range(1, len(table) + 1))
    assert set(table["path"]) == {"slide.tif"}
    assert (counts["images"], counts["cells"], counts["without cell"], counts["bad"]) == (1, len(table), 0, 0)
    starts, sides = (table[names].to_numpy() for names in (["left", "top"], ["width", "height"]))
    to_border = np.minimum(starts.min(axis=1), SIDE - (starts + sides).max(axis=1))
    assert table["border"][to_border <= 0].all()
    assert not table["border"][to_border > 4].any()
    assert 0 < table["border"].sum() < len(table) / 2
    assert "cells of about 50 pixels in level 0, by its 0.26 microns a pixel; 4 of 4 tiles" in capsys.readouterr().out
    boxes = table[["left", "top", "width", "height"]].to_numpy()
    features = json.loads((tmp_path / "geojson" / "slide.tif.geojson").read_text())["features"]
    corners = np.array([one["geometry"]["coordinates"][0] for one in features])
    np.testing.assert_array_equal(np.hstack([corners[:, 0], corners[:, 2] - corners[:, 0]]), boxes)
    assert [one["classification"]["name"] for one in (one["properties"] for one in features)] == list(
        table["prediction"]
    )
    rois = roifile.roiread(tmp_path / "rois" / "slide.tif.zip")
    assert [(one.xd, one.yd, one.widthd, one.heightd) for one in rois] == [tuple(box) for box in boxes.tolist()]
    assert rois[0].name == f"0001 {table['prediction'][0]}"
    with Image.open(tmp_path / "overlays" / "slide.tif.png") as drawn:
        assert drawn.width == SIDE


def test_decisions_on_a_slide_are_found_in_all_its_parts(slide, predicted, tmp_path, capsys):
    file, _ = slide
    table, _ = predicted(file.parent)
    first, last, box = table.iloc[0], table.iloc[-1], ["left", "top", "width", "height"]
    name = first["prediction"]
    lines = [["slide.tif", name, *first[box]], ["slide.tif", "no white cell", *last[box]]]
    lines += [["slide.tif", name, SIDE + 9, 0, 9, 9], ["other.tif", name, 0, 0, 9, 9]]
    corrections = pd.DataFrame(lines, columns=["path", "label", *box])
    corrections.to_csv(tmp_path / "corrections.csv", index=False)
    capsys.readouterr()
    decided, counts = predicted(file.parent, f"corrections={tmp_path / 'corrections.csv'}", name="decided.csv")
    assert decided["confirmed"].tolist() == [name, *[""] * (len(table) - 2), "no white cell"]
    pd.testing.assert_frame_equal(decided.drop(columns="confirmed"), table)
    assert (counts["confirmed"], counts["decisions"], counts["unmatched"]) == (1, 3, 1)
    assert "1 on pictures that are not here, 1 where no cell is found" in capsys.readouterr().out


def test_it_goes_on_within_a_slide_to_the_same_bytes(slide, predicted, tmp_path, monkeypatch):
    file, _ = slide
    images = [file.parent, tmp_path / "field.png"]
    Image.fromarray(field(1)).save(images[1])
    _, whole = predicted(images, name="whole.csv")
    add, steps = ResumableCsv.add_step, []

    def stopped(self, *arguments):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(arguments)
        add(self, *arguments)

    with monkeypatch.context() as context:
        context.setattr(ResumableCsv, "add_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            predicted(images, f"geojson={tmp_path / 'boxes'}")
    assert not list((tmp_path / "boxes").rglob("slide.tif.geojson"))
    state = tmp_path / "out.state.json"
    kept = json.loads(state.read_text())
    assert (kept["items"], kept["begun"]["steps"], kept["begun"]["of"]) == (0, 2, 4)
    state.write_text(json.dumps(kept | {"begun": kept["begun"] | {"of": 5}}))
    with pytest.raises(BloodcellError, match=r"slide\.tif is not the slide that it was; overwrite=true begins again"):
        predicted(images, f"geojson={tmp_path / 'boxes'}")
    state.write_text(json.dumps(kept))
    with (tmp_path / "out.csv").open("ab") as opened:
        opened.write(b'"half of a r')
    _, counts = predicted(images, f"geojson={tmp_path / 'boxes'}")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert counts == whole
    boxes = json.loads(next((tmp_path / "boxes").rglob("slide.tif.geojson")).read_text())
    assert 0 < len(boxes["features"]) < counts["cells"]  # the field has others


def test_a_slide_with_a_broken_tile_has_no_row(slide, predicted, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    content = bytearray(slide[0].read_bytes())
    with tifffile.TiffFile(slide[0]) as opened:
        start, size = (numbers[-1] for numbers in (opened.pages[0].dataoffsets, opened.pages[0].databytecounts))
    content[start : start + size] = bytes(size)
    (broken / "slide.tif").write_bytes(content)
    (broken / "text.svs").write_text("no slide")
    Image.fromarray(field(1)).save(broken / "z.png")
    table, counts = predicted(broken)
    assert set(table["path"]) == {"z.png"}
    assert (counts["images"], counts["cells"], counts["bad"]) == (1, len(table), 2)
    bad = pd.read_csv(tmp_path / "out.bad.csv")
    assert list(bad["path"]) == ["slide.tif", "text.svs"]
    assert "cannot be decoded" in bad["reason"][0]


def test_a_slide_is_never_one_image(slide, predicted, learnt_run, monkeypatch, tmp_path):
    for cells in ("one", "whole"):
        with pytest.raises(BloodcellError, match=f"is a whole slide, .* and this is cells={cells}; give cells=all"):
            predicted(slide[0], f"cells={cells}")
    with pytest.raises(BloodcellError, match="bloodcell predict"):
        bloodcell.load(learnt_run, device="cpu").predict(slide[0])
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(BloodcellError, match=r"slide\.tif: whole-slide files need OpenSlide"):
        predicted(slide[0])
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(BloodcellError, match=r"ROIs need roifile: pip install 'bloodcell\[rois\]'"):
        field_files({"rois": str(tmp_path / "boxes")}, "all", ["a"], [], "")
    assert not (tmp_path / "boxes").exists()


def test_the_differential_takes_a_slide_file_for_a_slide(slide, compose, learnt_run, tmp_path):
    own = [f"checkpoint={learnt_run}", f"images={slide[0].parent}", "device=cpu"]
    (counted,) = count(typed(compose(*own, verb="differential"), DifferentialConfig), tmp_path / "counts")
    assert (counted.name, counted.fields, counted.empty) == ("slide.tif", 1, 0)
    assert counted.cells > 0.9 * len(slide[1])
    assert "data:image/jpeg" in (tmp_path / "counts" / "report.html").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="needs signals of POSIX and the memory that Linux tells")
@pytest.mark.slow
def test_a_large_slide_takes_little_memory_and_goes_on_after_a_kill(learnt_run, tmp_path):
    picture, cells = whole_slide(8000, fields=12)
    picture[:1000, :6000] = (232, 226, 233)  # glass
    write_slide(tmp_path / "slide.tif", picture, levels=5, tile=512)
    del picture
    images = [f"checkpoint={learnt_run}", f"images={tmp_path / 'slide.tif'}", "output=out.csv", "device=cpu"]
    images += [f"{name}={name}" for name in ("overlays", "geojson")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(folder, code):
        folder.mkdir(exist_ok=True)
        line = [sys.executable, "-c", code, *images]
        return subprocess.run(line, capture_output=True, timeout=250, check=False, cwd=folder, env=environment)

    once = run(tmp_path / "once", MEASURED)
    assert once.returncode == 0, once.stderr
    assert 1024 * int((tmp_path / "once" / "memory.txt").read_text()) < MOST
    assert run(tmp_path / "killed", KILLED).returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "out.state.json").is_file()
    assert run(tmp_path / "killed", MEASURED).returncode == 0
    for name in ("out.csv", "overlays", "geojson"):
        files = [
            path for path in [tmp_path / "once" / name, *(tmp_path / "once" / name).rglob("*.*")] if path.is_file()
        ]
        assert files
        for file in files:
            assert file.read_bytes() == (tmp_path / "killed" / file.relative_to(tmp_path / "once")).read_bytes()
    table = pd.read_csv(tmp_path / "once" / "out.csv")
    shown = [cell for cell in cells if cell.top > 1000 or cell.left > 6000]
    found = [len(rows_of(table, cell)) for cell in shown[:300]]
    assert max(found) == 1
    assert np.mean(found) > 0.9
    assert 0.9 * len(shown) < len(table) < 1.1 * len(shown)
    (drawn,) = (tmp_path / "once" / "overlays").rglob("*.png")
    assert cv2.imread(str(drawn)).shape[1] == 2048
