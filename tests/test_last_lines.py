"""The last lines of each verb: what to look at, and the command to go on with."""

import shlex
from pathlib import Path

import pytest

from bloodcell.audits.audit import run_audit
from bloodcell.data.synthetic import slides
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.inference import predict as predicting
from bloodcell.runtime import cache, command
from bloodcell.training.find_lr import find_lr
from bloodcell.training.leaderboard import write_leaderboard
from bloodcell.training.train import train
from tests.conftest import BARE, QUICK, SMALL


@pytest.fixture
def ends(capsys):
    """Return the files to look at, which exist, and the words of the next command."""

    def read():
        lines = capsys.readouterr().out.splitlines()
        looks = [line.removeprefix("look at: ") for line in lines if line.startswith("look at: ")]
        assert lines[-1].startswith("next: ")
        assert len(looks) <= 1
        assert not looks or lines[-2] == f"look at: {looks[0]}"
        files = [Path(one) for look in looks for one in shlex.split(look)]
        assert all(file.exists() for file in files)
        words = shlex.split(lines[-1].removeprefix("next: "))
        assert words[: len(command.program())] == command.program()
        return files, words[len(command.program()) :]

    yield read
    command.remember([])


def test_train(compose, tmp_path, ends):
    run = tmp_path / "a run"
    train(compose(*QUICK, *SMALL, "logger=none", "report=true", f"outputs={tmp_path}"), run)
    assert ends() == ([run / "report.html"], ["predict", "FOLDER", f"checkpoint={run}", "output=FILE.csv"])


def test_evaluate(compose, quick_run, tmp_path, ends):
    evaluate(compose(f"checkpoint={quick_run}", *BARE, verb="evaluate"), tmp_path / "results")
    files, words = ends()
    assert files == [tmp_path / "results" / "metrics.json"]
    assert words == ["predict", "FOLDER", f"checkpoint={quick_run}", "output=FILE.csv"]


def test_predict(compose, quick_run, class_folders, tmp_path, ends):
    images = class_folders({"images": 2})
    output = tmp_path / "my answers.csv"
    predicting.run(compose(f"checkpoint={quick_run}", f"images={images}", f"output={output}", verb="predict"))
    assert ends() == ([output], ["app", str(quick_run)])
    checkpoint = tmp_path / "epoch=3.ckpt"
    checkpoint.write_bytes((quick_run / "checkpoints" / "best.ckpt").read_bytes())
    cfg = compose(
        f"checkpoint='{checkpoint}'", f"images={images}", f"output={output}", "overwrite=true", verb="predict"
    )
    predicting.run(cfg)
    assert ends() == ([output], ["app", f"checkpoint={checkpoint}"])


def test_audit(compose, class_folders, tmp_path, ends):
    root = class_folders({"a": 6, "b": 6})
    command.remember(["bloodcell", "audit", str(root), "hydra.run.dir=x", f"cache.root={tmp_path / 'cache'}"])
    cfg = compose("data=imagefolder", f"data.root={root}", f"cache.root={tmp_path / 'cache'}", verb="audit")
    run_audit(cfg, tmp_path / "audit")
    files, words = ends()
    assert files == [tmp_path / "audit" / "report.html"]
    assert words == ["train", str(root), f"cache.root={tmp_path / 'cache'}"]


def test_find_lr(compose, tmp_path, monkeypatch, ends):
    monkeypatch.setattr("bloodcell.training.find_lr.suggested_rate", lambda table: 0.01)
    command.remember(["bloodcell", "find-lr", "DIR", "finder.steps=10", "optimizer.lr=1"])
    find_lr(compose(*QUICK, *SMALL, "finder.steps=10", verb="find-lr"), tmp_path / "rates")
    assert ends() == ([tmp_path / "rates" / "lr_finder.png"], ["train", "DIR", "optimizer.lr=1.0e-02"])


def test_paint(compose, tmp_path, ends):
    slides.run(compose(f"output={tmp_path / 'my slides'}", "slides=1", "cells=1", verb="paint"))
    words = ["differential", str(tmp_path / "my slides"), "checkpoint=RUN"]
    assert ends() == ([tmp_path / "my slides" / "slides.csv"], words)


def test_cache(compose, quick_run, ends):
    cache.run(compose(verb="cache"))
    assert ends() == ([], ["cache", "clear=KIND"])


def test_a_multirun_ends_with_its_best_job(quick_run, tmp_path, ends):
    (tmp_path / "0").mkdir()
    for name in ("run.json", "config.yaml", "metrics.json"):
        (tmp_path / "0" / name).write_bytes((quick_run / name).read_bytes())
    write_leaderboard(tmp_path, report=False)
    files, words = ends()
    assert files == [tmp_path / "leaderboard.csv"]
    assert words == ["predict", "FOLDER", f"checkpoint={(tmp_path / '0').as_posix()}", "output=FILE.csv"]
