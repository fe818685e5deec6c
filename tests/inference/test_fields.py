"""Fields: each cell of a picture gets a row, whatever the net was trained on."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bloodcell
from bloodcell.data.cell_finder import cut, whole_square
from bloodcell.data.cells import Cell, find_cells
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import EXTENT, Preprocessing
from bloodcell.inference import ensemble as ensembles
from bloodcell.inference import predict as predict_verb
from bloodcell.inference.engine import NOT_FINITE, Pass
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.fields.choice import SMALL, chosen_cells, spread
from bloodcell.inference.fields.files import field_files, mirrored, require_apart
from bloodcell.inference.fields.geojson import feature_collection
from bloodcell.inference.fields.overlays import marks_of, overlay
from bloodcell.inference.groups import Decoded, Field
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import asked_cells, predict
from bloodcell.inference.prediction_counts import count_lines
from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.runtime.colours import COLOURS, rgb
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_json
from tests.painted import field

#: Predicts two fields at a time, and is killed with half of the third pair written.
KILLED = """
import os, signal
from bloodcell.inference import predict
from bloodcell.cli import main
predict.FIELDS = 2
sync = os.fsync
def cut_off(number):
    sync(number)
    content = open("out.csv", "rb").read()
    state = open("out.state.json").read()
    if os.fstat(number).st_ino == os.stat("out.csv").st_ino and '"items": 4' in state:
        os.truncate("out.csv", len(content) - 20)
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = cut_off
main("predict")
"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Write nine fields of four cells, one of them without any, and a file that is none."""
    folder = tmp_path_factory.mktemp("slides")
    for number in range(8):
        file = folder / "ab"[number % 2] / f"{number}.{('png', 'jpg', 'tif')[number % 3]}"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(field(number)).save(file)
    Image.new("RGB", (640, 480), (225, 200, 205)).save(folder / "empty.png")
    (folder / "none.jpg").write_text("no image")
    return folder


@pytest.fixture
def predicted(compose, learnt_run, tmp_path):
    """Predict in this process: predicted(images, "cells=all") -> (table, counts)."""

    def run(images, *overrides, checkpoint=learnt_run, name="out.csv"):
        output = tmp_path / name
        cfg = compose(f"checkpoint={checkpoint}", f"output={output}", "device=cpu", *overrides, verb="predict")
        cfg.images = [str(one) for one in images] if isinstance(images, list) else str(images)
        counts = predict(cfg)
        return pd.read_csv(output, keep_default_na=False), counts

    return run


def found_in(slides):
    """Return the cells of each field that has some, by its path in the table."""
    files = sorted(file for file in slides.rglob("*.*") if file.name != "none.jpg")
    found = {file.relative_to(slides).as_posix(): find_cells(read_image(file)) for file in files}
    return {path: cells for path, cells in found.items() if cells}


def test_each_cell_has_a_row_with_its_box(slides, predicted, tmp_path, capsys):
    table, counts = predicted(slides, "cells=all", "abstain_below=0.5")
    chances = [name for name in table if name.startswith("p_")]
    assert list(table) == [
        "path", "number", "prediction", *chances, "confidence", "abstained", "left", "top", "width", "height", "border",
    ]  # fmt: skip
    expected = [
        (path, number, *cell.box, cell.border)
        for path, cells in found_in(slides).items()
        for number, cell in enumerate(cells, start=1)
    ]
    rows = table[["path", "number", "left", "top", "width", "height", "border"]].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(expected)
    assert (counts["images"], counts["cells"], counts["without cell"], counts["bad"]) == (9, len(expected), 1, 1)
    assert list(table["abstained"]) == list(table["confidence"] < 0.5)
    said = capsys.readouterr().out
    assert f"9 images with {len(expected)} cells" in said
    assert "1 image without a cell, and so without a row" in said
    assert f"{'cells':>9}   share" in said


def test_a_cell_is_seen_as_the_training_images_show_theirs(slides, predicted, learnt_run):
    table, _ = predicted(slides, "cells=all")
    (engine,) = load_engines(learnt_run, "cpu")
    extent = engine.preprocessing.extent
    assert 1.5 < extent < 3.5  # the smears are 240 pixels high, and their cells some 100 wide
    crops = []
    for path, cells in found_in(slides).items():
        picture = read_image(slides / path)
        crops += [cut(picture, *whole_square(picture, *cell.square(extent * cell.diameter))) for cell in cells]
    expected = bloodcell.load(learnt_run, device="cpu").predict(crops, cells="whole")
    names = [name for name in table if name.startswith("p_")]
    assert np.ptp(expected[names].to_numpy(), axis=0).max() > 1e-3
    np.testing.assert_allclose(table[names], expected[names], rtol=0, atol=1e-5)


def test_python_gives_the_table_of_the_command_line(slides, predicted, learnt_run, capsys):
    expected, _ = predicted(slides, "cells=all")
    table = bloodcell.load(learnt_run, device="cpu").predict(slides, cells="all")
    assert list(table) == list(expected)
    numbers = [name for name in expected if expected[name].dtype == float]
    np.testing.assert_allclose(table[numbers], expected[numbers], rtol=0, atol=1e-5)
    rest = [name for name in expected if name not in numbers]
    assert table[rest].astype(str).to_numpy().tolist() == expected[rest].astype(str).to_numpy().tolist()
    assert table.attrs["without cell"] == ["empty.png"]
    assert list(table.attrs["bad"]) == ["none.jpg"]
    assert "cells=auto" not in capsys.readouterr().out
    array = read_image(slides / "a" / "0.png")
    assert len(bloodcell.predict(array, learnt_run, device="cpu")) == len(find_cells(array))
    assert "cells=auto: all, a row for each cell, as the largest cell has" in capsys.readouterr().out


def test_cells_pass_in_batches_across_fields_and_never_in_larger_ones(slides, learnt_run, monkeypatch):
    monkeypatch.setattr(ensembles, "GROUP", 5)
    (engine,) = load_engines(learnt_run, "cpu")
    passes, sizes = engine.passes, []

    def spied(count):
        way = passes(count)
        return Pass(way.name, 1, lambda images: sizes.append(len(images)) or way.run(images))

    engine.passes = spied
    files = [str(slides / path) for path in found_in(slides)]
    (group,) = Ensemble([engine], "none", "all").predict([files], len(files), threads=1)
    cells = len(group.probabilities)
    assert sizes == [5] * (cells // 5) + ([cells % 5] if cells % 5 else [])
    assert max(len(one.cells) for one in group.fields) < 5 < cells


def test_a_picture_of_one_cell_has_the_bytes_that_it_had(smears, predicted, tmp_path, capsys):
    predicted(smears.root, name="auto.csv")
    predicted(smears.root, "cells=one", name="one.csv")
    assert (tmp_path / "auto.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    said = capsys.readouterr().out
    assert "cells=auto" not in said
    assert "diameters" not in said


def test_fields_among_pictures_of_one_cell_are_said_to_be_some(smears, slides, capsys):
    cells, fields = smears.paths()[:6], [slides / "a" / "0.png", slides / "b" / "1.jpg"]
    assert chosen_cells("auto", [], lambda _: [*cells, *fields]) == "one"
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("note: 2 of 8 images that were looked at may be fields")
    assert chosen_cells("auto", [], lambda _: cells) == "one"
    assert chosen_cells("one", [], lambda _: [*cells, *fields]) == "one"
    assert capsys.readouterr().out == ""


def test_whole_leaves_out_the_crop_of_the_checkpoint(another, smears, predicted, quick_run):
    def crop(checkpoint):
        checkpoint["hyper_parameters"]["preprocessing"] |= {"crop": "cell", "extent": None}

    cropped, files = another("cropped", crop), smears.paths()[:5]
    whole, _ = predicted(files, "cells=whole", checkpoint=cropped)
    plain, _ = predicted(files, "cells=one", checkpoint=quick_run, name="plain.csv")
    pd.testing.assert_frame_equal(whole, plain)
    assert "cell" in predicted(files, "cells=one", checkpoint=cropped, name="one.csv")[0]


@pytest.mark.parametrize("crop", ["none", "cell"])
def test_pictures_whose_cells_are_as_small_as_in_training_show_one_each(another, slides, predicted, capsys, crop):
    cells = list(found_in(slides).items())
    sizes = [max(cell.diameter for cell in found) for _, found in cells if found]
    share = float(np.median(sizes)) / min(read_image(slides / "a" / "0.png").shape[:2])
    assert share < SMALL
    for extent, rows in [(1 / share, 9), (0.7 / share, sum(len(found) for _, found in cells))]:

        def learn(checkpoint, extent=extent):
            checkpoint["hyper_parameters"]["preprocessing"] |= {"crop": crop, "extent": extent}

        table, _ = predicted(slides, checkpoint=another(f"{crop}{rows}", learn), name=f"{rows}.csv")
        assert len(table) == rows
        assert ("cells=auto: all" in capsys.readouterr().out) == (rows != 9)


def test_an_older_checkpoint_says_which_size_it_takes(another, slides, predicted, capsys):
    def forget(checkpoint):
        del checkpoint["hyper_parameters"]["preprocessing"]["extent"]

    predicted([slides / "a" / "0.png"], "cells=all", checkpoint=another("older", forget))
    assert f"in a square of {EXTENT:g} diameters" in " ".join(capsys.readouterr().out.split())


def test_an_unfinished_table_goes_on_as_it_was_decided(tmp_path):
    table = ResumableCsv(tmp_path / "out.csv")
    assert asked_cells("auto", table, ["a"], 9) == "auto"
    settings = {"images": ["a"], "number of images": 9, "cells": "one"}
    write_json({"settings": settings, "items": 3, "seen": "", "sizes": [1, 0], "counts": {}}, table.state)
    assert asked_cells("auto", table, ["a"], 9) == "one"
    assert asked_cells("all", table, ["a"], 9) == "all"
    assert asked_cells("auto", table, ["a"], 8) == asked_cells("auto", table, ["b"], 9) == "auto"


def test_the_sample_that_decides_is_spread_evenly():
    assert list(spread(range(100), 32, 100)) == list(range(0, 100, 4))
    assert list(spread(range(32), 32, 32)) == list(range(32))
    assert list(spread([], 32, 0)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
@pytest.mark.slow
def test_killed_and_run_again_gives_the_very_same_bytes(slides, learnt_run, tmp_path, compose, monkeypatch):
    arguments = [f"checkpoint={learnt_run}", f"images={slides}", "output=out.csv", "device=cpu", "cells=auto"]
    arguments += ["overlays=drawn", "geojson=boxes"]
    once, killed = tmp_path / "once", tmp_path / "killed"
    for folder in (once, killed):
        folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", KILLED, *arguments]
    first = subprocess.run(line, capture_output=True, timeout=200, check=False, cwd=killed, env=environment)
    assert first.returncode == -signal.SIGKILL, first.stderr
    done = [file for file in (killed / "drawn").rglob("*.*") if not file.name.startswith(".")]
    assert len(done) >= 5  # those of the first six files, one of which cannot be read
    before = {file: file.stat().st_mtime_ns for file in done}
    (killed / "drawn" / ".left.png.123").write_bytes(b"half")
    monkeypatch.setattr(predict_verb, "FIELDS", 2)
    for folder in (killed, once):
        monkeypatch.chdir(folder)
        assert predict(compose(*arguments, verb="predict"))["images"] == 9
    files = {file.relative_to(once) for file in once.rglob("*") if file.is_file()}
    assert len(files) == 2 + 9 + 9
    assert files == {file.relative_to(killed) for file in killed.rglob("*") if file.is_file()}
    for file in files:
        assert (once / file).read_bytes() == (killed / file).read_bytes(), file
    again = sum(file.stat().st_mtime_ns != time for file, time in before.items())
    assert again == len(done) - 3  # those of the four files in the table are not written again


def test_a_field_with_a_cell_without_an_answer_is_bad_as_a_whole():
    cell = Cell(1, 1, 4, 4)
    fields = [Field("a", [cell, cell], ""), Field("b", [], ""), Field("c", [cell], "")]
    decoded = Decoded(["a", "b", "c"], ["a", "a", "c"], views=[(1,), (2,), (3,)], fields=fields)
    assert decoded.leave_out(np.array([True, False, True])).tolist() == [False, False, True]
    assert (decoded.images, decoded.views, decoded.bad) == (["c"], [(3,)], [("a", NOT_FINITE)])
    assert [one.image for one in decoded.fields] == ["b", "c"]


def test_overlays_and_geojson_are_written_for_each_field(slides, predicted, tmp_path, capsys):
    table, _ = predicted(slides, "cells=all", f"overlays={tmp_path / 'drawn'}", f"geojson={tmp_path / 'boxes'}")
    drawn = {file.relative_to(tmp_path / "drawn").as_posix() for file in (tmp_path / "drawn").rglob("*.*")}
    paths = {*found_in(slides), "empty.png"}
    assert drawn == {path if not path.endswith("tif") else f"{path}.png" for path in paths}
    boxes = {file.relative_to(tmp_path / "boxes").as_posix() for file in (tmp_path / "boxes").rglob("*.*")}
    assert boxes == {f"{path}.geojson" for path in paths}
    for path in paths:
        rows = table[table["path"] == path]
        features = json.loads((tmp_path / "boxes" / f"{path}.geojson").read_text())["features"]
        assert [one["properties"]["classification"]["name"] for one in features] == list(rows["prediction"])
        assert [one["properties"]["measurements"]["confidence"] for one in features] == list(rows["confidence"])
    with Image.open(tmp_path / "drawn" / "b" / "1.jpg") as picture:
        assert (picture.format, picture.width) == ("JPEG", 640)
        assert picture.height > 480  # the legend


def test_geojson_is_that_which_qupath_reads():
    chances = np.array([[0.25, 0.75], [1.0, 0.0]])
    found = feature_collection([Cell(10.2, 20.6, 30, 40), Cell(0, 0, 5, 5)], chances, ["LYMPHOCYTE", "MONOCYTE"])
    assert found["type"] == "FeatureCollection"
    assert found["features"][0] == {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[10, 21], [40, 21], [40, 61], [10, 61], [10, 21]]]},
        "properties": {
            "objectType": "detection",
            "name": "1",
            "classification": {"name": "MONOCYTE", "color": [213, 94, 0]},
            "measurements": {"p_LYMPHOCYTE": 0.25, "p_MONOCYTE": 0.75, "confidence": 0.75},
        },
    }
    assert json.loads(json.dumps(found)) == found


def test_a_box_has_the_colour_of_its_class_and_a_label():
    grey, cells = np.full((300, 400, 3), 200, np.uint8), [Cell(50, 60, 100, 90), Cell(250, 2, 100, 90)]
    drawn = np.asarray(overlay(Field("a", cells, "", grey), np.eye(9)[[1, 8]], [f"class {n}" for n in range(9)]))
    assert drawn.shape[1] == 400
    for (left, top, width, height), colour in zip([cell.box for cell in cells], (COLOURS[1], COLOURS[0]), strict=True):
        for y, x in ((top + height // 2, left), (top + height - 1, left + width // 2)):
            assert tuple(drawn[y, x]) == rgb(colour)  # nine classes: the ninth has the first colour again
        assert tuple(drawn[top + height // 2, left + width // 2]) == (200, 200, 200)
    assert (drawn[42:58, 52:110] == rgb(COLOURS[1])).all(axis=2).mean() > 0.5  # above the first box
    assert (drawn[4:20, 252:310] == rgb(COLOURS[0])).all(axis=2).mean() > 0.4  # inside the second
    assert (drawn[300:] == 255).mean() > 0.5


def test_doubtful_cells_have_a_mark_and_the_legend_tells_it():
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
    marks = marks_of(chances, 0.75, [False, False, True, True], ["", "", "platelet", "platelet"])
    assert marks == ["", "?", "!", "!"]
    assert marks_of(chances, 0.75, [True, True, False, False], None) == ["*", "*", "", "?"]
    assert marks_of(chances, 0.0, None, None) == [""] * 4
    assert marks_of(np.zeros((0, 2)), 0.5, [], []) == []
    grey, cells = np.full((300, 400, 3), 200, np.uint8), [Cell(50, 60, 100, 90)]
    field = Field("a", cells, "", grey)
    plain, other = (np.asarray(overlay(field, chances[:1], ["a", "b"], [mark])) for mark in ("", "!"))
    assert (plain[:60] != other[:60]).any()  # behind the class
    assert (plain[300:] != other[300:]).any()


def test_a_large_field_is_drawn_smaller_and_its_boxes_with_it(learnt_run, tmp_path):
    large = np.full((400, 4096, 3), 200, np.uint8)
    kept, scale = ensembles._smaller(large)
    assert (kept.shape, scale) == ((200, 2048, 3), 0.5)
    drawn = np.asarray(overlay(Field("a", [Cell(1000, 100, 200, 200)], "", kept, scale), np.eye(2)[[0]], ["a", "b"]))
    assert tuple(drawn[100, 500]) == rgb(COLOURS[0])


def test_files_are_named_like_their_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mirrored("slides/a/1.png", "slides") == "a/1.png"
    assert mirrored("a/1.png", "") == "a/1.png"
    assert mirrored("/data/a/1.png", "") == "data/a/1.png"
    assert mirrored("../1.png", "") == (tmp_path.parent / "1.png").as_posix().lstrip("/")


@pytest.mark.parametrize(
    ("folder", "images", "apart"),
    [
        ("drawn", ["slides"], True),
        ("slides/drawn", ["slides"], False),
        ("slides", ["slides"], False),
        (".", ["slides"], False),
        ("slides/drawn", ["slides/a.png"], True),
        ("slides", ["slides/a.png"], False),
        ("slides/drawn", ["slides/*.png"], True),
        ("slides/drawn", ["slides/**/*.png"], False),
        ("drawn", ["other", "slides"], True),
    ],
)
def test_overlays_never_replace_images_nor_become_some(tmp_path, monkeypatch, folder, images, apart):
    monkeypatch.chdir(tmp_path)
    for name in ("slides", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    if apart:
        require_apart(tmp_path / folder, images)
    else:
        with pytest.raises(BloodcellError, match="give it a folder of its own"):
            require_apart(tmp_path / folder, images)


def test_a_refused_folder_is_not_made(tmp_path):
    (tmp_path / "images").mkdir()
    inside = tmp_path / "images" / "drawn"
    with pytest.raises(BloodcellError, match="shares a folder with images"):
        field_files({"overlays": str(inside)}, "all", ["a"], [str(tmp_path / "images")], "")
    assert not inside.exists()


def test_boxes_are_of_fields_alone(predicted, smears, tmp_path):
    with pytest.raises(BloodcellError, match="overlays=x; it has the cells of fields, and this is cells=one"):
        predicted(smears.root, "cells=one", "overlays=x")
    with pytest.raises(BloodcellError, match="cells of fields, and this is cells=one; give cells=all"):
        predicted(smears.root, f"geojson={tmp_path / 'x'}")
    assert not list(tmp_path.glob("*"))


def test_the_counts_at_the_end_are_of_cells(tmp_path):
    file = tmp_path / "o.csv"
    file.write_text("path,number,prediction\na/1.png,1,x\na/1.png,2,y\nb/1.png,1,x\n", encoding="utf-8")
    first, second, *_ = count_lines(file, "cells")
    assert first.split() == ["predicted", "class", "cells", "share"]
    assert second.split() == ["x", "2", "66.7", "%"]


def test_extents_change_no_key_and_no_whole_image(learnt_run):
    (engine,) = load_engines(learnt_run, "cpu")
    known = engine.extractor.described()
    engine.extractor.preprocessing = Preprocessing(32)
    assert engine.extractor.described() == known
    assert "extent" not in json.dumps(known)
    assert engine.preprocessing.of_whole_images() == Preprocessing(32)
