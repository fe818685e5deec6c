"""`bloodcell differential corrections=FILE`: what a human has decided, in counts, tables, page and lines."""

import sys

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell import cli
from bloodcell.data.confirmed_cells import DISAGREEMENT
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL, Corrections, Decision
from bloodcell.data.decision_log import append_decisions
from bloodcell.data.synthetic.slides import paint_slides
from bloodcell.evaluation.differentials.count_notes import decision_notes, notes_of
from bloodcell.evaluation.differentials.count_result import Counts
from bloodcell.evaluation.differentials.count_text import text_of
from bloodcell.evaluation.differentials.slide_counts import count_slides, differential_table, reasons_of, slides_table
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.differential import Cells, differential_of
from bloodcell.runtime import command
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import clear

KNOWN = Confusion(("a", "b"), ((19.0, 1.0), (2.0, 18.0)), (20.0, 20.0))


def cells_of(**columns):
    """Return a table of `predict` by hand: cells predicted as a in boxes of 10 pixels, not at the border."""
    rows = len(next(iter(columns.values())))
    usual = {"slide": "s", "path": "s/1.png", "left": 50, "top": 50, "width": 10, "height": 10, "prediction": "a"}
    return pd.DataFrame({**usual, "p_a": 0.5, "p_b": 0.5, "confidence": 0.5, **columns}, index=range(rows))


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Paint a slide of 10 white cells."""
    folder = tmp_path_factory.mktemp("painted") / "slides"
    paint_slides(folder, 1, 10, seed=1)
    return folder


@pytest.fixture
def typed_in(monkeypatch):
    """Run a command line in this process: typed_in("differential", "a=1")."""

    def run(*words):
        words = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["bloodcell", *words])
        command.remember(sys.argv)
        try:
            cli.run_verb(words[0], words[1:])
        finally:
            command.remember([])

    return run


def test_a_confirmed_cell_counts_unless_the_border_cuts_it():
    said = ["b", "b", "b", NO_CELL, NO_CELL, CANNOT_TELL, DISAGREEMENT, ""]
    cells = cells_of(
        confirmed=said, left=[0, 9, 9, 0, 9, 9, 9, 9], abstained=[True] * 2 + [False] * 6,
        unlike=[True, False, True, True, True, True, True, True],
    )  # fmt: skip
    expected = ["border", "", "", "border", "no_white_cell", "abstained", "abstained", "unlike"]
    assert list(reasons_of(cells)) == expected
    (slide,) = count_slides(cells, {"s": 1}, None)
    assert (slide.counted, slide.confirmed, slide.unlike) == (2, 2, 1.0)  # of the one cell that nobody decided on
    (row,) = slides_table([slide]).to_dict("records")
    assert row == {
        "slide": "s", "fields": 1, "cells": 8, "counted": 2, "confirmed": 2, "border": 2, "no_white_cell": 1,
        "abstained": 2, "unlike": 1, "not_white": 0,
    }  # fmt: skip
    lines = text_of([slide])
    assert (
        "s: 8 cells found; left out: 2 cut by the top or left border, 1 no white cell, says a human, "
        "2 left to a human, 1 unlike the training data"
    ) in lines
    assert "s: 2 of 2 white cells confirmed by a human" in lines


@pytest.mark.parametrize("confusion", [None, KNOWN])
def test_confirmed_cells_are_known_and_the_others_as_predicted(confusion):
    """Of 20 predicted as a, 6 are a and 4 are b; the 10 predicted as b are as they are."""
    cells = cells_of(prediction=["a"] * 20 + ["b"] * 10, confirmed=["a"] * 6 + ["b"] * 4 + [""] * 20)
    (slide,) = count_slides(cells, {"s": 1}, confusion)
    assert slide.result == differential_of(Cells(("a", "b"), (10, 10), (6, 4)), confusion)
    table = differential_table([slide])
    assert table["count"].tolist() == [16, 14]
    if confusion is None:
        assert table["share"].tolist() == [16 / 30, 14 / 30]


def test_if_all_cells_are_confirmed_nothing_has_to_be_corrected():
    cells = cells_of(confirmed=["a"] * 3 + ["b"])
    (slide,) = count_slides(cells, {"s": 1}, None)
    assert [one.share for one in slide.result.shares] == [0.75, 0.25]
    assert slide.result.corrected
    assert notes_of([slide], None, "why not", 0.0) == []


def test_what_is_not_used_or_may_mislead_is_said(tmp_path):
    cells = cells_of(prediction=["a", "a", "b", "b"], confirmed=["a", DISAGREEMENT, "b", "b"], left=[9, 9, 9, 0])
    file = Corrections(tmp_path / "c.csv", (), "")
    missed = {"s/1.png": 1, "other/1.png": 2}
    notes = decision_notes(cells, file, missed, {"s/1.png"}, KNOWN)
    assert notes == [
        "1 cell left to a human, as readers disagree: s/1.png",
        f"3 decisions of {file.file} not used, as no cell matches: 2 on pictures that are not here, e.g. other/1.png; "
        "1 where no cell is found, e.g. s/1.png",
    ]
    cells["confirmed"] = ["a", "", "b", ""]  # the last one is at the border and does not count
    (note,) = decision_notes(cells, file, {}, {"s/1.png"}, KNOWN)
    assert "the correction is too strong; confirm all cells that are predicted as that class" in note
    assert decision_notes(cells, file, {}, {"s/1.png"}, None) == []


def test_the_command_counts_anew_with_other_corrections(slides, learnt_run, typed_in, tmp_path, capsys, monkeypatch):
    folder, file = tmp_path / "counts", tmp_path / "corrections.csv"
    own = ["differential", slides, f"checkpoint={learnt_run}", f"hydra.run.dir={folder}", "device=cpu"]
    typed_in(*own, "report=false")
    net = (folder / "cells.csv").read_bytes()
    before, cells = Counts(folder).slides.set_index("slide"), Counts(folder).cells
    assert before["confirmed"].sum() == 0

    inside = cells[(cells["left"] > 0) & (cells["top"] > 0)].index
    classes = [name.removeprefix("p_") for name in cells if name.startswith("p_")]

    def decision(row, label, path=None, who="me"):
        box = tuple(float(cells[name][row]) + 1 for name in ("left", "top", "width", "height"))
        return Decision(path=path or cells["path"][row], label=label, cell=99, box=box, who=who)

    known, dirt, doubt, split = inside[:4]
    other = next(name for name in classes if name != cells["prediction"][known])
    append_decisions(file, [decision(known, classes[0]), decision(known, other), decision(dirt, NO_CELL)])
    append_decisions(file, [decision(doubt, CANNOT_TELL), decision(split, "", who="you")])
    append_decisions(file, [decision(split, name, who=name) for name in classes[:2]])
    append_decisions(file, [decision(known, other, path="none.png")])
    monkeypatch.setattr("bloodcell.evaluation.differentials.slide_cells.predict_images", None)
    capsys.readouterr()
    typed_in(*own, f"corrections={file}")

    after = Counts(folder)
    assert (folder / "cells.csv").read_bytes() == net
    change = (after.slides.set_index("slide") - before).sum()
    assert change.to_dict() == {
        "fields": 0, "cells": 0, "counted": -3, "confirmed": 1, "border": 0, "no_white_cell": 1, "abstained": 2,
        "not_white": 0,
    } | ({"unlike": 0} if "unlike" in change else {})  # fmt: skip
    counted = cells["prediction"].where(cells.index != known, other)[inside.drop([dirt, doubt, split])]
    assert after.table.groupby("class")["count"].sum().to_dict() == {
        name: int((counted == name).sum()) for name in classes
    }
    assert after.confirmed["label"].tolist() == [other, NO_CELL, CANNOT_TELL, DISAGREEMENT]
    assert after.confirmed["path"].tolist() == cells["path"][[known, dirt, doubt, split]].tolist()
    said = capsys.readouterr().out
    assert "cells confirmed by a human" in said
    assert "note: 1 decision of" in said
    page = after.report.read_text()
    assert "1 of them confirmed by a human" in page
    assert f"{other}, confirmed by a human, in {cells['path'][known]}" in page

    append_decisions(file, [decision(dirt, ""), decision(known, "")])
    typed_in(*own, f"corrections={file}", "report=false")
    assert after.slides["no_white_cell"].sum() == after.slides["confirmed"].sum() == 0
    assert after.report is None  # the earlier one had other numbers
    file.write_text("path,label\n1.png,none\n")
    with pytest.raises(SystemExit):
        typed_in(*own, f"corrections={file}")
    assert "row 2: label 'none' is no class" in capsys.readouterr().err
    assert len(after.slides) == 1  # nothing is lost by a mistake
    append_decisions(tmp_path / "good.csv", [decision(known, other)])
    with pytest.raises(SystemExit):
        typed_in(*own, f"corrections={tmp_path / 'good.csv'}", "cells=one")  # other cells than those there
    assert "is not empty; new results need a new folder" in capsys.readouterr().err


def test_an_interrupted_count_goes_on_with_other_corrections(slides, learnt_run, typed_in, tmp_path, monkeypatch):
    folder = tmp_path / "counts"
    own = ["differential", slides / "slide_01", f"checkpoint={learnt_run}", f"hydra.run.dir={folder}", "report=false"]
    files = [tmp_path / name for name in ("one.csv", "two.csv")]
    for file in files:
        append_decisions(file, [Decision(path="none.png", label=NO_CELL)])

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("bloodcell.evaluation.differentials.count.slides_table", interrupted)
        with pytest.raises(SystemExit):
            typed_in(*own, f"corrections={files[0]}")
    monkeypatch.setattr("bloodcell.evaluation.differentials.slide_cells.predict_images", None)
    typed_in(*own, f"corrections={files[1]}")
    assert len(Counts(folder).slides) == 1


def test_python_takes_a_table(slides, learnt_run, tmp_path):
    one = slides / "slide_01"
    own = {"outputs": tmp_path / "out", "report": False, "device": "cpu"}
    found = bloodcell.differential(one, learnt_run, **own)
    with pytest.raises(BloodcellError, match=r"has no confirmed\.csv; count with corrections=FILE"):
        assert found.confirmed is None
    table = found.cells.rename(columns={"number": "cell", "prediction": "predicted"}).assign(label=NO_CELL, who="me")
    confirmed = bloodcell.differential(one, learnt_run, table, **own)
    assert (confirmed.confirmed["label"] == NO_CELL).all()
    assert len(confirmed.confirmed) == len(found.cells)
    assert confirmed.slides["counted"].item() == 0


def test_predict_has_the_decisions_beside_the_predictions(slides, learnt_run, typed_in, tmp_path, capsys, request):
    command_line = request.getfixturevalue("command")
    plain, file, output = tmp_path / "plain.csv", tmp_path / "corrections.csv", tmp_path / "out.csv"
    own = ["predict", slides, f"checkpoint={learnt_run}", "device=cpu"]
    typed_in(*own, "cells=all", f"output={plain}")
    cells = pd.read_csv(plain)
    labels = np.where(np.arange(len(cells)) % 2, cells["prediction"], NO_CELL)
    decided = cells.rename(columns={"number": "cell"}).assign(label=labels, who="me")
    lost = decided[:1].assign(path="none.png")
    pd.concat([decided, lost]).to_csv(file, index=False)
    capsys.readouterr()
    typed_in(*own, "cells=all", f"output={output}", f"corrections={file}")
    table = pd.read_csv(output)
    assert list(table)[:4] == ["path", "number", "prediction", "confirmed"]
    assert table["confirmed"].tolist() == list(labels)
    pd.testing.assert_frame_equal(table.drop(columns="confirmed"), cells)
    said = capsys.readouterr().out
    assert f"{len(cells) // 2} confirmed by a human" in said
    assert f"note: 1 decision of {file} not used, as no cell matches: 1 on pictures that are not here, 0 where" in said

    file.write_text("path,label\n1.png,?\n")
    wrong = [*map(str, own), "cells=all", f"output={tmp_path / 'no.csv'}", f"corrections={file}"]
    clear(*command_line(*wrong), str(file), "row 2: label '?' is no class")
    assert not (tmp_path / "no.csv").exists()
    only = sorted(set(cells["path"]))[0]
    file.write_text(f"path,label\n{only},{CANNOT_TELL}\n")
    typed_in(*own, "cells=whole", f"output={tmp_path / 'whole.csv'}", f"corrections={file}")
    whole = pd.read_csv(tmp_path / "whole.csv", keep_default_na=False).set_index("path")["confirmed"]
    assert whole[only] == CANNOT_TELL
    assert (whole.drop(only) == "").all()
