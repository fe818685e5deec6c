"""The verbs as functions: the words of the command line, tables and paths in return, errors that are raised."""

import json
import pydoc
import subprocess
import sys

import pandas as pd
import pytest

import bloodcell
from bloodcell.evaluation.run import Run
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import BARE, QUICK, SMALL


def settings(*overrides):
    return dict(override.split("=", 1) for override in overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory, compose):
    return bloodcell.train(data="synthetic", outputs=tmp_path_factory.mktemp("outputs"), **settings(*QUICK, *SMALL))


def test_the_functions_are_in_dir_and_in_help():
    text = pydoc.plaintext.document(bloodcell)
    for name in ("audit", "differential", "evaluate", "export", "load", "predict", "train"):
        assert name in dir(bloodcell)
        assert f"\n    {name}(" in text
    code = "import bloodcell, sys; assert not {'torch', 'pandas', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_has_its_figures_and_tables(run):
    kept = json.loads((run.folder / "metrics.json").read_text())
    assert run.metrics["test/accuracy"] == kept["test/accuracy"]
    assert list(run.history["epoch"]) == [1, 2]
    assert set(run.predictions["split"]) == {"val", "test"}
    assert {"history", "predictions", "samples"} <= set(run.tables)
    assert len(run.table("samples")) == 96
    assert json.loads((run.folder / "run.json").read_text())["command"].startswith("bloodcell train data=synthetic ")
    assert run.report is None
    with pytest.raises(BloodcellError, match="no table 'historie'; did you mean 'history'"):
        run.table("historie")


def test_names_in_a_table_are_text_and_empty_numbers_are_missing(tmp_path):
    (tmp_path / "failures.csv").write_text("path,label,share\n01,NA,0.5\n1e3,01,\n")
    table = Run(tmp_path).table("failures")
    assert table.values.tolist()[0] == ["01", "NA", 0.5]
    assert table.iloc[1, :2].to_list() == ["1e3", "01"]
    assert table["share"].isna().to_list() == [False, True]


def test_its_evaluation_and_its_predictions_are_its_own(run, tmp_path, smears, capsys):
    again = bloodcell.evaluate(run, outputs=tmp_path, **settings(*BARE))
    said = capsys.readouterr().out
    assert "look at: " in said
    assert "next: " not in said  # a command of the shell
    assert (again.metrics == run.metrics[again.metrics.index]).all()
    rows = run.predictions.head(3)
    table = bloodcell.predict([smears.root / path for path in rows["path"]], run, device="cpu")
    assert table["prediction"].to_list() == rows["prediction"].to_list()


def test_an_audit_has_its_tables(tmp_path):
    own = {"outputs": tmp_path / "outputs", "cache.root": tmp_path / "cache"}  # no other test's sources
    found = bloodcell.audit(data="synthetic", **own, **settings(*SMALL))
    pd.testing.assert_frame_equal(found.leaks, pd.read_csv(found.folder / "leaks.csv", keep_default_na=False))
    assert len(found.sources) == 96
    assert "Leak: " in found.verdict()
    assert found.report.is_file()


def test_a_mistake_is_raised_and_leaves_the_program_as_it_was(run, tmp_path, capsys):
    before = list(sys.argv)
    for call, said in (
        (lambda: bloodcell.train(tmp_path / "none"), "no such folder: data.root="),
        (lambda: bloodcell.train(data="synthetic", optimizerr="x"), "did you mean 'optimizer'?"),
        (lambda: bloodcell.train(data="synthetic", trainer__max_epochs="ten"), "trainer.max_epochs=ten"),
        (lambda: bloodcell.train(resume="auto"), "name the run: resume=FOLDER"),
        (lambda: bloodcell.train(data="synthetic", trainer__devices=2, trainer__accelerator="cpu"), "one device"),
        (lambda: bloodcell.evaluate(tmp_path / "none"), "no such run or checkpoint"),
        (lambda: bloodcell.evaluate(run, checkpoint=run), "give one of them"),
    ):
        with pytest.raises(BloodcellError, match=said.replace("?", r"\?")):
            call()
        assert sys.argv == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "a b", ["x", "y"], {"a": "b c"}])
def test_a_value_of_python_is_that_of_the_configuration(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from bloodcell.cli import _as_text, _text_of

    assert OverridesParser.create().parse_override(_as_text(f"key={_text_of(value)}")).value() == value
