"""`bloodcell differential`: what a slide is, which cells count, what is written, and how it goes on."""

import dataclasses
import re
import shlex
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.stats import binomtest

import bloodcell
from bloodcell import cli
from bloodcell.data.synthetic.slides import paint_slides
from bloodcell.evaluation.differentials.count import confusion_of, count
from bloodcell.evaluation.differentials.count_notes import notes_of, picture_notes
from bloodcell.evaluation.differentials.count_text import text_of
from bloodcell.evaluation.differentials.slide_counts import count_slides, differential_table, reasons_of, slides_table
from bloodcell.evaluation.differentials.slide_names import slides_in, slides_of
from bloodcell.inference import predict as predicting
from bloodcell.inference.loader import load_engines
from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.differential import count_cells, differential_of
from bloodcell.runtime import command
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import DifferentialConfig
from tests.conftest import clear

RATES = ((19.0, 1.0), (2.0, 18.0))
KNOWN = Confusion(("a", "b"), RATES, (20.0, 20.0))


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Paint two slides of 14 white cells."""
    folder = tmp_path_factory.mktemp("painted") / "slides"
    paint_slides(folder, 2, 14, seed=1)
    return folder


@pytest.fixture
def counted(compose, learnt_run, tmp_path):
    """Count in this process: counted(images, "cells=all") -> (folder, counts)."""

    def run(images, *overrides, checkpoint=learnt_run, name="counts"):
        own = [f"checkpoint={checkpoint}", f"images={images}", "device=cpu"]
        config = typed(compose(*own, *overrides, verb="differential"), DifferentialConfig)
        return tmp_path / name, count(config, tmp_path / name)

    return run


def cells_of(**columns):
    """Return a table of `predict` by hand: cells of class a or b in boxes of 10 pixels, not at the border."""
    rows = len(next(iter(columns.values())))
    usual = {"slide": "s", "path": "s/1.png", "left": 50, "top": 50, "width": 10, "height": 10, "prediction": "a"}
    return pd.DataFrame({**usual, "p_a": 0.5, "p_b": 0.5, "confidence": 0.5, **columns}, index=range(rows))


def test_a_slide_is_a_folder_or_what_an_expression_finds(tmp_path):
    paths = ["x/1.png", "x/deep/2.png", "y/1.png"]
    assert slides_of(paths, tmp_path) == ["x", "x", "y"]
    assert slides_of(["1.png", "2.png"], tmp_path / "mine") == ["mine", "mine"]
    assert slides_of(["day/p7_1.png", "day/p12_1.png"], tmp_path, r"(p\d+)_") == ["p7", "p12"]
    with pytest.raises(BloodcellError, match=r"0\.png lies beside folders of pictures; move .* or say .* slide_regex"):
        slides_of(["0.png", *paths], tmp_path)
    with pytest.raises(BloodcellError, match=r"finds no slide in 2 of 3 paths, e\.g\. x/1\.png"):
        slides_of(paths, tmp_path, "(deep)/")


def test_cells_at_the_left_or_top_border_do_not_count_and_others_do():
    """A cell that two pictures side by side cut is at the right border of one, and at the left of the other."""
    cells = cells_of(left=[0, 50, 90, 50, 0], top=[50, 0, 50, 90, 90], border=[True] * 5)
    assert list(reasons_of(cells)) == ["border", "border", "", "", "border"]
    assert not reasons_of(cells.drop(columns=["width", "height", "border"])).any()  # pictures of one cell each


def test_a_cell_is_left_out_once_for_its_first_reason():
    cells = cells_of(left=[0, 9, 9, 9], abstained=[True, True, False, False], unlike=[True, True, True, False])
    assert list(reasons_of(cells)) == ["border", "abstained", "unlike", ""]
    (slide,) = count_slides(cells, {"s": 3}, None)
    (row,) = slides_table([slide]).to_dict("records")
    assert row == {
        "slide": "s", "fields": 3, "cells": 4, "counted": 1, "confirmed": 0, "border": 1, "no_white_cell": 0,
        "abstained": 1, "unlike": 1, "not_white": 0,
    }  # fmt: skip
    assert slide.unlike == 0.75


@pytest.mark.parametrize("confusion", [None, KNOWN])
def test_shares_are_those_of_the_cells_that_count(confusion):
    cells = cells_of(
        slide=["s"] * 30 + ["t"] * 12, prediction=["a"] * 20 + ["b"] * 10 + ["a"] * 12, left=[9] * 30 + [0] * 12
    )
    counts = count_slides(cells, {"s": 5, "t": 2, "empty": 1}, confusion)
    expected = differential_of(count_cells(["a", "b"], ["a"] * 20 + ["b"] * 10), confusion)
    assert [one.result for one in counts] == [expected, None, None]
    table = differential_table(counts)
    assert list(table) == [
        "slide", "class", "count", "share", "low", "high", "per_100", "per_100_low", "per_100_high", "cells",
        "corrected",
    ]  # fmt: skip
    assert table[["slide", "class", "count", "cells"]].to_numpy().tolist() == [["s", "a", 20, 30], ["s", "b", 10, 30]]
    assert table["corrected"].tolist() == [confusion is not None] * 2
    assert (table["share"].iloc[0] == 2 / 3) == (confusion is None)
    assert [(one.counted, one.empty) for one in counts] == [(30, 4), (0, 1), (0, 1)]
    assert counts[0].needed > 200 if confusion is None else counts[0].needed is None
    notes = " ".join(notes_of(counts, confusion, "why not", 0.0))
    assert "if they show some, the shares may be wrong: s (4 of 5), empty (1 of 1)" in notes
    assert "no white cell counts, so there are no shares: t, empty" in notes
    assert ("unknown (why not): shares are as predicted" in notes) == (confusion is None)


def two_classes(first, second, **columns):
    return cells_of(**columns).rename(columns={"p_a": f"p_{first}", "p_b": f"p_{second}"})


def test_shares_are_of_white_cells_and_others_stand_beside_them():
    predicted = ["neutrophil"] * 40 + ["Erythroblast"] * 8
    cells = two_classes("neutrophil", "Erythroblast", prediction=predicted, unlike=[True, *[False] * 47])
    (slide,) = counts = count_slides(cells, {"s": 1}, None)
    table = differential_table(counts).set_index("class")
    assert table.loc["neutrophil", ["count", "share", "cells"]].tolist() == [39, 1.0, 39]
    assert table.loc["Erythroblast", ["count", "per_100"]].tolist() == [8, pytest.approx(100 * 8 / 39)]
    assert table.loc["Erythroblast", ["share", "low", "high"]].isna().all()
    row = slides_table(counts).iloc[0]
    assert row[["cells", "counted", "unlike", "not_white"]].tolist() == [48, 39, 1, 8]
    exact = binomtest(8, 47).proportion_ci(0.95)
    said = "beside the white cells: 8 Erythroblast (20.5 per 100 white cells, {:.1f} to {:.1f})"
    assert f"s: {said.format(*(100 * one / (1 - one) for one in exact))}" in text_of([slide])


def test_a_slide_without_white_cells_has_no_shares_and_its_other_cells_are_told():
    cells = two_classes("neutrophil", "platelets", prediction=["platelets"] * 3)
    (slide,) = count_slides(cells, {"s": 1}, None)
    assert (slide.counted, slide.result, dict(slide.others)) == (0, None, {"platelets": 3})
    assert "s: beside the white cells: 3 platelets" in text_of([slide])
    assert "no white cell counts, so there are no shares: s" in notes_of([slide], None, "why not", 0.0)


@pytest.mark.parametrize(("strange", "said"), [(1, False), (2, True)])
def test_more_than_a_twentieth_of_cells_unlike_the_training_is_said(strange, said):
    cells = cells_of(unlike=[True] * strange + [False] * (20 - strange))
    notes = notes_of(count_slides(cells, {"s": 1}, KNOWN), KNOWN, "", 0.0)
    assert any("so the correction may not hold: s (10 %)" in note for note in notes) == said


def test_what_the_correction_rests_on_is_said():
    cells = count_slides(cells_of(prediction=["a", "b"]), {"s": 1}, KNOWN)
    assert notes_of(cells, KNOWN, "", 0.0) == []
    doubtful = Confusion(("a", "b"), ((5.0, 0.0), (0.0, 0.0)), (5.0, 0.0), provisional=True)
    notes = notes_of(cells, doubtful, "", 0.8)
    assert [note.split(":")[0].split(",")[0] for note in notes] == [
        "the confusions are provisional",
        "no source was held out of b",
        "cells left to a human are the unsure ones; the others are confused less often than those held out",
    ]


def test_pictures_that_are_copies_unreadable_or_of_several_pages_are_named(tmp_path):
    for slide in ("s", "t"):
        (tmp_path / slide).mkdir()
        for name, content in (("1.png", b"one"), ("2.png", b"two"), ("copy of 2.png", b"two"), ("3.png", b"three")):
            (tmp_path / slide / name).write_bytes(content + slide.encode() if name < "2" else content)
    picture = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(tmp_path / "t" / "4.tif", np.stack([picture, picture]), photometric="rgb")
    (tmp_path / "t" / "copy of 2.png").write_bytes(b"owt")  # as long, and another
    slides = slides_in(tmp_path, None)
    assert picture_notes(slides, {"s": 3, "t": 5}) == [
        "pictures that cannot be read are not counted, see cells.bad.csv: s (1 of 4)",
        "cells count twice, as pictures are byte by byte the same as others of their slide; take these away, and count "
        "again: s/copy of 2.png",
        f"1 TIFF file with several pages, of which the first is read, e.g. {tmp_path}/t/4.tif with 1 more; save each "
        "picture as a file of its own to have them all",
    ]


def test_slides_in_folders_of_patients_are_said_to_be_one(tmp_path):
    for path in ("p1/x/1.png", "p1/y/2.png", "p2/x/3.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(path)
    (note,) = picture_notes(slides_in(tmp_path, None), {"p1": 2, "p2": 1})
    assert note == (
        "pictures in several folders count as one slide; if each folder is a slide, give slide_regex='(.*)/': "
        "p1 (2 folders)"
    )
    each = slides_in(tmp_path, "(.*)/")
    assert list(each.of_path.values()) == ["p1/x", "p1/y", "p2/x"]
    assert picture_notes(each, dict.fromkeys(each.of_path.values(), 1)) == []


def test_the_terminal_has_tables_side_by_side_in_80_columns():
    names = ["EOSINOPHIL", "NEUTROPHIL"]
    cells = cells_of(
        slide=["s1"] * 40 + ["s2"] * 10 + ["s3"] * 10, prediction=[names[1]] * 30 + [names[0]] * 30, left=[0, *[9] * 59]
    )
    cells = cells.drop(columns=["p_a", "p_b"]).assign(p_EOSINOPHIL=0.5, p_NEUTROPHIL=0.5)
    lines = text_of(count_slides(cells, {"s1": 1, "s2": 1, "s3": 1}, None))
    assert max(map(len, lines)) <= 80
    assert re.fullmatch(r"s1: 39 white cells +s2: 10 white cells", lines[1])
    head = "class       cells      %  95 % interval"
    assert re.fullmatch(rf"{head}  {head}", lines[2])
    assert lines[4].startswith("NEUTROPHIL     29   74.4   57.9 to 87.0")
    assert lines[6] == "s3: 10 white cells"
    assert "s1: 40 cells found; left out: 1 cut by the top or left border" in lines
    assert (
        lines[-1] == "s1: some 290 more white cells would narrow EOSINOPHIL to +-5 points"
    )  # 1.96^2 .256 .744 / .05^2 - 39


def test_painted_slides_are_counted(slides, counted, compose, learnt_run, tmp_path, capsys):
    folder, counts = counted(slides)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == f"look at: {folder / 'report.html'}"
    assert shlex.split(lines[-1])[-6:] == [
        "predict", str(slides), f"checkpoint={learnt_run}", "output=FILE.csv", "cells=all", "overlays=DIR",
    ]  # fmt: skip
    own = [f"checkpoint={learnt_run}", f"images={slides}", "cells=all", "device=cpu"]
    predicting.predict(compose(*own, f"output={tmp_path / 'own.csv'}", verb="predict"))
    assert (folder / "cells.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()

    cells = pd.read_csv(folder / "cells.csv")
    inside = cells[(cells["left"] > 0) & (cells["top"] > 0)]
    assert len(inside) < len(cells)  # else the rule is not tested
    for name in ("slide_01", "slide_02"):
        of = inside[inside["path"].str.startswith(f"{name}/")]["prediction"].value_counts()
        row = pd.read_csv(folder / "slides.csv").set_index("slide").loc[name]
        assert row["fields"] == len(list((slides / name).glob("*.png")))
        assert row["counted"] == row["cells"] - row["border"] == of.sum()
        table = pd.read_csv(folder / "differential.csv").set_index("slide").loc[name].set_index("class")
        assert table["count"][table["count"] > 0].to_dict() == of.to_dict()
        assert table["share"].sum() == pytest.approx(1, abs=1e-5)
        assert table["corrected"].all()
    assert [one.name for one in counts] == ["slide_01", "slide_02"]
    assert {file.name for file in folder.iterdir()} == {
        "cells.csv", "cells.json", "differential.csv", "slides.csv", "report.html",
    }  # fmt: skip

    page = (folder / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<svg role") == 2
    pictures = sum(min(6, number) for one in counts for number in (share.count for share in one.result.shares))
    assert pictures / 2 <= page.count('class="cells"') * 6
    assert 0 < page.count("<img alt") <= pictures


def test_the_python_function_returns_the_tables(slides, another, tmp_path):
    run = another("old", lambda checkpoint: checkpoint.pop("confusion"))
    one = slides / "slide_01"
    found = bloodcell.differential(one, run, outputs=tmp_path / "out", cells="all", report=False, device="cpu")
    assert found.folder.parent == tmp_path / "out" / "differential"
    assert found.report is None
    assert set(found.table["slide"]) == set(found.slides["slide"]) == {"slide_01"}
    assert not found.table["corrected"].any()  # an older checkpoint does not know its confusions
    assert found.table["count"].sum() == found.slides["counted"].item() <= len(found.cells)
    by_name = bloodcell.differential(
        slides, run, slide_regex=r"(field_00\d)", outputs=tmp_path / "out", report=False, device="cpu"
    )
    assert by_name.slides["slide"].tolist() == sorted({file.stem for file in slides.rglob("field_00?.png")})
    assert by_name.slides["fields"].max() == 2


def test_confusions_are_known_for_one_checkpoint_with_its_own_augmentation(quick_run, another):
    (one,) = load_engines(quick_run, "cpu")
    assert confusion_of([one], "none") == (one.confusion, "")
    assert one.confusion is not None
    assert confusion_of([one], "flips") == (None, "they are kept for tta=none, and this is tta=flips")
    assert confusion_of([one, one], "none")[1] == "they are not kept for the mean of several classifiers"
    (old,) = load_engines(another("old", lambda checkpoint: checkpoint.pop("confusion")), "cpu")
    assert confusion_of([old], "none")[1].startswith("this checkpoint does not keep them")
    file = dataclasses.replace(old, classifier=None)  # as an ONNX file is loaded
    assert confusion_of([file], "none")[1].startswith("an exported file does not keep them")


def test_an_interrupted_count_goes_on_to_the_same_table(slides, learnt_run, counted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predicting, "FIELDS", 2)
    whole, _ = counted(slides, "report=false")
    add = ResumableCsv.add

    def interrupted(self, *arguments):
        add(self, *arguments)
        raise KeyboardInterrupt

    def typed_in(words):
        monkeypatch.setattr(sys, "argv", ["bloodcell", *words])
        command.remember(sys.argv)
        cli.run_verb(words[0], words[1:])

    monkeypatch.setattr(ResumableCsv, "add", interrupted)
    with pytest.raises(SystemExit):
        typed_in(
            ["differential", str(slides), f"checkpoint={learnt_run}", "report=false", f"outputs={tmp_path / 'out'}"]
        )
    told = capsys.readouterr().err.splitlines()[-1]
    (folder,) = (tmp_path / "out" / "differential").iterdir()
    assert told.endswith(f" hydra.run.dir={folder}")
    assert 0 < len(pd.read_csv(folder / "cells.csv")) < len(pd.read_csv(whole / "cells.csv"))
    assert not (folder / "differential.csv").exists()

    monkeypatch.setattr(ResumableCsv, "add", add)
    further = shlex.split(told.partition("go on with: ")[2])
    further = further[further.index("differential") :]
    typed_in(further)
    assert "of them before it was interrupted" in capsys.readouterr().out
    assert {file.name for file in folder.iterdir()} == {"cells.csv", "cells.json", "differential.csv", "slides.csv"}
    for file in whole.glob("*.csv"):
        assert (folder / file.name).read_bytes() == file.read_bytes(), file.name
    with pytest.raises(SystemExit):
        typed_in(further)
    command.remember([])
    assert "is not empty; new results need a new folder" in capsys.readouterr().err


def test_cells_that_are_predicted_are_not_predicted_again(slides, counted, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bloodcell.evaluation.differentials.count.slides_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        counted(slides, "report=false")
    monkeypatch.setattr("bloodcell.evaluation.differentials.count.slides_table", slides_table)
    monkeypatch.setattr("bloodcell.evaluation.differentials.slide_cells.predict_images", None)
    folder, _ = counted(slides, "report=false")
    assert pd.read_csv(folder / "slides.csv")["slide"].tolist() == ["slide_01", "slide_02"]


def test_pictures_none_of_which_can_be_read_are_an_error(counted, tmp_path):
    (tmp_path / "slide").mkdir()
    (tmp_path / "slide" / "none.jpg").write_text("no image")
    with pytest.raises(BloodcellError, match=r"no image in images=.* can be read; which and why: .*cells\.bad\.csv"):
        counted(tmp_path / "slide", "report=false")


def test_pictures_of_one_cell_each_count_too(class_folders, counted):
    root = class_folders({"left": 3, "right": 2})
    (root / "right" / "none.jpg").write_text("no image")
    folder, counts = counted(root, "cells=one", "report=false")
    assert [(one.name, one.fields, one.counted) for one in counts] == [("left", 3, 3), ("right", 2, 2)]
    assert pd.read_csv(folder / "cells.bad.csv")["path"].tolist() == ["right/none.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["checkpoint={run}"], ["images is not set; give the folder of the slides"]),
        (["checkpoint={run}", "images={slides}/none"], ["is no folder"]),
        (["checkpoint={run}", "images={slides}/slides.csv"], ["is no folder"]),
        (["checkpoint={run}", "images={tmp}"], ["no image in images=", "but 1 .txt"]),
        (["checkpoint={run}", "images={slides}", "slide_regex=slide_.."], ["slide_regex=slide_..; give one group"]),
        (["checkpoint={run}", "images={slides}", "slide_regex=(a"], ["slide_regex=(a is no regular expression"]),
        (["checkpoint={run}", "images={slides}", "slide_regex=(patient)"], ["finds no slide in", "slide_01/field_001"]),
        (["checkpoint={run}", "images={slides}", "cells=whole"], ["cells=whole; choose all, auto or one"]),
    ],
)
def test_mistakes_are_one_clear_line(request, slides, quick_run, tmp_path, arguments, words):
    (tmp_path / "a.txt").write_text("no image")
    given = [one.format(slides=slides, run=quick_run, tmp=tmp_path) for one in arguments]
    code, error = request.getfixturevalue("command")("differential", *given)
    clear(code, error, *words)
    assert len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "run").glob("*"))


def test_pictures_beside_folders_are_no_layout(slides, tmp_path):
    (tmp_path / "mixed" / "a").mkdir(parents=True)
    picture = (slides / "slide_01" / "field_001.png").read_bytes()
    for name in ("0.png", "a/1.png"):
        (tmp_path / "mixed" / name).write_bytes(picture)
    with pytest.raises(BloodcellError, match=r"which slides does .*mixed have\? 0\.png lies beside folders"):
        slides_in(tmp_path / "mixed", None)
    assert np.array(list(slides_in(tmp_path / "mixed" / "a", None).of_path.items())).tolist() == [["1.png", "a"]]
