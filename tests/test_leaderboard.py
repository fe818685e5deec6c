"""A multirun: one failure does not lose the others, and what was finished is not repeated."""

import sys

import pandas as pd
import pytest
from hydra._internal.callbacks import Callbacks
from omegaconf import OmegaConf

from bloodcell import cli
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.leaderboard import leaderboard
from tests.conftest import QUICK, SMALL


def multirun(monkeypatch, folder, *arguments):
    """Run a multirun in this process and return its exit code."""
    shown = [*QUICK, *SMALL, f"outputs={folder.parent}", f"hydra.sweep.dir={folder}", *arguments]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *shown])
    try:
        cli.main("train")
    except SystemExit as leave:
        return leave.code or 0
    return 0


def test_a_failed_job_is_recorded_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    code = multirun(monkeypatch, tmp_path / "sweep", "optimizer.lr=1e-3,fast,1e-2")
    table = pd.read_csv(tmp_path / "sweep" / "leaderboard.csv")
    assert code == 1
    assert sorted(table["status"]) == ["failed", "finished", "finished"]
    assert table["status"].iloc[-1] == "failed"
    assert "fast" in table["error"].iloc[-1]
    assert table["val/macro_f1"].iloc[0] >= table["val/macro_f1"].iloc[1]
    assert not [name for name in table if "test" in name], "no test figure is in a leaderboard"
    assert (tmp_path / "sweep" / "1" / "error.txt").is_file()
    assert "leaderboard" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/x/y"), "error: no space left on the disk (/x/y); "),
        (BloodcellError("samples.csv is damaged"), "error: samples.csv is damaged\n"),
        (ZeroDivisionError(), "Traceback (most recent call last)"),
    ],
)
def test_a_leaderboard_that_cannot_be_made_is_no_success(monkeypatch, tmp_path, capsys, error, said):
    def fails(folder):
        raise error

    monkeypatch.setattr("bloodcell.training.leaderboard.leaderboard", fails)
    callbacks = {"leaderboard": {"_target_": "bloodcell.training.leaderboard.Leaderboard"}}
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "callbacks": callbacks}})
    with pytest.raises(SystemExit) as left:
        Callbacks(config).on_multirun_end(config)
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith(said)


def test_a_repeated_multirun_skips_what_is_finished(monkeypatch, tmp_path):
    assert multirun(monkeypatch, tmp_path / "first", "seed=1", "trainer.max_epochs=1") == 0
    before = (tmp_path / "first" / "0" / "metrics.json").stat().st_mtime_ns
    assert multirun(monkeypatch, tmp_path / "second", "seed=1,2", "trainer.max_epochs=1") == 0
    table = leaderboard(tmp_path / "second")
    assert sorted(table["status"]) == ["finished", "reused"]
    assert table["val/accuracy"].notna().all()
    assert (tmp_path / "first" / "0" / "metrics.json").stat().st_mtime_ns == before
    assert not (tmp_path / "second" / "0" / "checkpoints").exists()


@pytest.mark.slow
def test_a_job_leaves_the_test_part_alone(monkeypatch, tmp_path):
    assert multirun(monkeypatch, tmp_path / "sweep", "seed=5,6", f"cache.root={tmp_path / 'cache'}") == 0
    assert set(pd.read_csv(tmp_path / "sweep" / "0" / "predictions.csv")["split"]) == {"val"}
    assert not (tmp_path / "cache" / "test_reads.csv").exists()


@pytest.mark.parametrize("fold", [0, 2])
def test_a_fold_leaves_the_test_part_alone(compose, tmp_path, fold):
    from bloodcell.training.train import train

    cfg = compose(*QUICK, *SMALL, "data.folds=3", f"data.fold={fold}", f"outputs={tmp_path}")
    metrics = train(cfg, tmp_path / "run")
    assert "test/accuracy" not in metrics
    samples = pd.read_csv(tmp_path / "run" / "samples.csv")
    trained = samples[samples["split"].isin(["train", "val"])]
    assert (trained["split"] == "val").mean() == pytest.approx(1 / 3, abs=0.01)
