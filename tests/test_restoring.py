"""What a killed run left: a folder that was moved, half-written files, a run that never began."""

import pytest

from bloodcell.models.classifier import load_checkpoint
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import remove_temporaries
from bloodcell.training.train import resume, train
from tests.conftest import QUICK, SMALL
from tests.test_training import assert_same_run, plug_pulled


def test_a_run_that_was_moved_remembers_its_best_epoch(compose, tmp_path):
    cfg = compose(
        *QUICK,
        *SMALL,
        "finetune=full",
        "trainer.max_epochs=4",
        "logger=none",
        "evaluate.figures=false",
        f"outputs={tmp_path}",
    )
    train(cfg, tmp_path / "whole")
    with plug_pulled(2):
        train(cfg, tmp_path / "broken")
    moved = (tmp_path / "broken").rename(tmp_path / "moved")
    (moved / "checkpoints" / ".last.ckpt.4711").write_bytes(b"half")
    (moved / "history.csv").write_bytes((moved / "history.csv").read_bytes()[:20])
    resume(moved, [])
    assert_same_run(tmp_path / "whole", moved)
    states = load_checkpoint(moved / "checkpoints" / "last.ckpt")["callbacks"].values()
    assert {state["dirpath"] for state in states if "dirpath" in state} == {str(moved / "checkpoints")}
    assert sorted(file.name for file in (moved / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_run_that_was_killed_as_it_began_leaves_its_folder_free(tmp_path):
    run_folder.begin(tmp_path / "run", "0123")
    (tmp_path / "run" / ".config.yaml.4711").write_text("half")
    run_folder.refuse_used(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("seed: 0")
    with pytest.raises(BloodcellError, match="is not empty"):
        run_folder.refuse_used(tmp_path / "run")


def test_a_run_that_another_process_finished_meanwhile_is_refused(compose, quick_run):
    metrics = (quick_run / "metrics.json").stat().st_mtime_ns
    cfg = compose(*QUICK, *SMALL, f"outputs={quick_run.parent}")
    with pytest.raises(BloodcellError, match="that run has finished"):
        train(cfg, quick_run, resumed=True)
    assert (quick_run / "metrics.json").stat().st_mtime_ns == metrics
    assert run_folder.read_run(quick_run)["status"] == "finished"


def test_only_what_was_half_written_is_removed(tmp_path):
    names = [".a.csv.12", ".a.csv.lock", "a.csv", ".b.csv.7", "c.12"]
    for name in names:
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, "a.csv")
    assert {file.name for file in tmp_path.iterdir()} == set(names) - {".a.csv.12"}
    remove_temporaries(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".a.csv.lock", "a.csv", "c.12"}
