"""The reader of the package: it answers if no checkpoint is named, and its file is one that the command wrote."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import bloodcell
from bloodcell import cli
from bloodcell.exports.export import export
from bloodcell.exports.reader_card import painted_answers
from bloodcell.exports.reader_file import MOST
from bloodcell.inference import reader
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest
from tests.conftest import clear

SHIPPED, CARD = reader.FILE, reader.CARD


@pytest.fixture(scope="module")
def small(compose, learnt_run, tmp_path_factory):
    """Make a reader of a small run, and return its file."""
    file = tmp_path_factory.mktemp("reader") / "reader.ckpt"
    export(compose(f"checkpoint={learnt_run}", "format=reader", f"output={file}", verb="export"))
    return file


@pytest.fixture
def shipped(small, monkeypatch, tmp_path):
    """Make a small reader that of the package, and work in an empty folder; return the file."""
    monkeypatch.setattr(reader, "FILE", small)
    monkeypatch.setattr(reader, "CARD", small.with_suffix(".md"))
    monkeypatch.chdir(tmp_path)
    return small


def test_the_file_holds_no_more_than_a_reader_needs(small, learnt_run):
    content = torch.load(small, weights_only=True)
    assert {value.dtype for value in content["state_dict"].values()} == {torch.float16}
    assert set(content) <= {
        "hyper_parameters",
        "state_dict",
        "temperature",
        "limits",
        "confusion",
        "inference",
        "epoch",
    }
    assert content["hyper_parameters"]["model"]["weights"] is None
    assert small.stat().st_size < (learnt_run / "checkpoints" / "last.ckpt").stat().st_size / 2
    assert str(learnt_run).encode() not in small.read_bytes()
    assert {value.dtype for value in load_classifier(small).net.state_dict().values()} <= {torch.float32, torch.int64}


def test_it_answers_as_the_run_does(small, learnt_run, smears):
    files = smears.paths()[:6]
    ours, its = (bloodcell.load(one, "cpu").predict(files) for one in (small, learnt_run))
    probabilities = [name for name in its if name.startswith("p_")]
    assert list(ours) == list(its)
    np.testing.assert_allclose(ours[probabilities], its[probabilities], atol=0.01)


def test_its_card_names_data_figures_and_no_path(small, learnt_run, compose, tmp_path):
    card = small.with_suffix(".md").read_text(encoding="utf-8")
    assert file_digest(small) in card
    assert "**Not a medical device.**" in card
    assert "None by laboratory are known." in card
    assert str(learnt_run.parent) not in card
    table = tmp_path / "leave_one_lab_out.csv"
    row = {"choices": "", "set": "elsewhere", "images": 12, "sources": 2, "macro_recall_by_source": 0.625}
    pd.DataFrame([{**row, "low": 0.5, "high": 0.75, "run": learnt_run}]).to_csv(table, index=False)
    again = tmp_path / "again.ckpt"
    settings = [f"checkpoint={learnt_run}", "format=reader", f"output={again}", f"laboratories={table}"]
    export(compose(*settings, verb="export"))
    line = r"\| elsewhere \| 12 \| 2 \| 62\.5 % \(50 to 75\) \| (no limits|\d+ %; at most \d+ %) \|"
    assert re.search(line, again.with_suffix(".md").read_text(encoding="utf-8"))
    assert again.read_bytes() == small.read_bytes()


def test_without_a_checkpoint_it_predicts(shipped, smears, monkeypatch, capsys):
    words = ["predict", str(smears.root / "images/TEST"), "device=cpu", "cells=one"]
    monkeypatch.setattr(sys, "argv", ["bloodcell", *words])
    cli.main()
    said = capsys.readouterr().out
    named = [line for line in said.splitlines() if "the package's own reader answers" in line]
    assert len(named) == 1
    assert str(shipped.with_suffix(".md")) in named[0]
    assert re.search(r"^next: .*bloodcell app$", said, re.MULTILINE)  # by whatever name the command is on the path
    table = pd.read_csv("predictions.csv")
    assert len(table) == len(smears.of_split("test").table)
    assert set(table["prediction"]) <= set(bloodcell.load(shipped).classes)


def test_in_python_it_needs_no_name_either(shipped, smears, capsys):
    files = smears.paths()[:2]
    tables = [bloodcell.predict(files, device="cpu"), bloodcell.load(device="cpu").predict(files)]
    pd.testing.assert_frame_equal(*tables)
    assert capsys.readouterr().out.count("the package's own reader answers") == 2


def test_it_counts_and_serves_but_is_no_run_to_make_a_reader_of(shipped, smears, compose, tmp_path, capsys):
    from bloodcell.app.app import application_of
    from bloodcell.app.classifier_summary import about
    from bloodcell.runtime.config import typed
    from bloodcell.runtime.schema.verbs import AppConfig

    choices = {"cells": "one", "report": False, "hydra.run.dir": str(tmp_path / "counts")}
    count = bloodcell.differential(smears.root / "images/TEST", **choices)
    assert count.table["share"].between(0, 1).all()
    assert application_of(typed(compose("device=cpu", verb="app"), AppConfig))
    (line,) = about(bloodcell.load(shipped).ensemble, "auto")["lines"]
    assert line.startswith(f"It is the package's own reader; {shipped.with_suffix('.md')} has its data")
    assert capsys.readouterr().out.count("the package's own reader answers") == 2
    with pytest.raises(BloodcellError, match=r"checkpoint is not set; give a run folder"):
        export(compose("format=reader", verb="export"))


@pytest.mark.parametrize("verb", ["predict", "differential", "app", "export"])
@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_without_its_file_there_is_one_clear_line(verb, state, command, monkeypatch, tmp_path, smears):
    monkeypatch.setattr(reader, "FILE", tmp_path / "reader.ckpt")
    if state == "damaged":
        (tmp_path / "reader.ckpt").write_bytes(b"PK\3\4 and no more")
    own = {"app": ["port=0"], "export": ["output=x.onnx"]}
    words = own.get(verb, [f"images={smears.root}/images/TEST"])
    monkeypatch.chdir(tmp_path)
    code, error = command(verb, *words)
    expected = ("checkpoint is not set", "install the package anew", "checkpoint=...")
    clear(code, error, "reader.ckpt", *(expected if state == "missing" else ("damaged",)))
    assert not list(tmp_path.glob("*.csv"))


def test_the_file_of_the_package_is_the_one_of_its_card():
    card, classifier = CARD.read_text(encoding="utf-8"), load_classifier(SHIPPED)
    assert SHIPPED.stat().st_size <= MOST
    assert re.search(r"SHA-256 \| (\w+)", card)[1] == file_digest(SHIPPED)
    found = re.findall(r"^\| ([a-z]+) \| ([a-z ]+) \| (0\.\d{3}|1\.000) \|$", card, re.MULTILINE)
    for row, (name, answer, probability) in zip(found, painted_answers(classifier), strict=True):
        assert row[:2] == (name, answer)
        assert float(row[2]) == pytest.approx(probability, abs=0.002)
    assert classifier.classes == [
        "basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ]  # fmt: skip
    assert classifier.limits is not None
    assert classifier.confusion is not None
