"""Resumed runs: which images they take, how far they may go, and what is said if they cannot go on."""

import shutil

import pandas as pd
import pytest

from bloodcell import cli
from bloodcell.models.classifier import Classifier, load_checkpoint
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import read_run
from bloodcell.training.train import resume, train
from tests.conftest import QUICK

LEARNING = (*QUICK, "data=imagefolder", "finetune=full", "logger=none", "data.batch_size=8", "calibrate=false")


@pytest.fixture
def images(class_folders):
    return class_folders({"a": 12, "b": 12})


@pytest.fixture
def interrupted(compose, images, tmp_path, monkeypatch):
    """Train two of three epochs and fail in the third: interrupted(*overrides) -> run folder."""
    start = Classifier.on_train_epoch_start

    def stops(self):
        if self.current_epoch == 2:
            raise RuntimeError("pulled the plug")
        start(self)

    def run(*choices):
        folder, several = tmp_path / "run", f"outputs={tmp_path}"
        monkeypatch.setattr(Classifier, "on_train_epoch_start", stops)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train(compose(*LEARNING, f"data.root={images}", several, "trainer.max_epochs=3", *choices), folder)
        monkeypatch.setattr(Classifier, "on_train_epoch_start", start)
        return folder

    return run


@pytest.fixture
def finished(compose, images, tmp_path):
    """Train to the end: finished(*overrides) -> run folder."""

    def run(*choices):
        train(compose(*LEARNING, f"data.root={images}", f"outputs={tmp_path}", *choices), tmp_path / "run")
        return tmp_path / "run"

    return run


def epochs_of(folder):
    return list(pd.read_csv(folder / "history.csv")["epoch"])


def test_images_that_came_since_are_named_and_left_out(interrupted, images, capsys):
    folder = interrupted()
    before = (folder / "samples.csv").read_bytes()
    shutil.copytree(images / "a", images / "c")
    resume(folder, [])
    assert "12 images in" in (said := " ".join(capsys.readouterr().out.split()))
    assert "are not of this run; it goes on without them" in said
    assert (folder / "samples.csv").read_bytes() == before
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt")["hyper_parameters"]["classes"] == ["a", "b"]


def test_a_renamed_class_is_refused_and_nothing_is_lost(interrupted, images):
    folder = interrupted()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}
    (images / "a").rename(images / "d")
    with pytest.raises(BloodcellError, match=r"resume=.*: 12 of its 24 images are not in .* any more, e\.g\. a/"):
        resume(folder, [])
    assert {file: file.read_bytes() for file in before} == before
    (images / "d").rename(images / "a")
    resume(folder, [])
    assert epochs_of(folder) == [1, 2, 3]


def test_images_may_move(interrupted, images):
    folder = interrupted()
    moved = images.rename(images.with_name("moved"))
    with pytest.raises(BloodcellError, match="24 of its 24 images are not in"):
        resume(folder, [])
    resume(folder, [f"data.root={moved}"])
    assert set(pd.read_csv(folder / "samples.csv")["root"]) == {str(moved)}
    assert epochs_of(folder) == [1, 2, 3]


def test_from_another_folder_with_a_relative_path_and_a_slash(interrupted, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images.parent)
    folder = interrupted(f"data.root={images.name}")
    monkeypatch.chdir(tmp_path / "images" / "a")
    monkeypatch.setattr("sys.argv", ["train.py", "resume=../../run/"])
    cli.main("train")
    assert epochs_of(folder) == [1, 2, 3]


def test_a_run_that_was_killed_before_its_images_were_written_begins_again(interrupted):
    folder = interrupted()
    (folder / "samples.csv").unlink()
    shutil.rmtree(folder / "checkpoints")
    resume(folder, [])
    assert epochs_of(folder) == [1, 2, 3]


def test_a_finished_run_goes_on_for_more_epochs_only(finished, compose, images, tmp_path):
    folder = finished()
    before = (folder / "run.json").read_bytes()
    for overrides, message in (
        ([], "that run has finished"),
        (["trainer.max_epochs=2"], r"trainer\.max_epochs=2, but the run has done 2 epochs already; give more"),
        (["trainer.max_epochs=1"], r"trainer\.max_epochs=1, but the run has done 2 epochs already; give more"),
        (["trainer.max_epochs=9", "optimizer.lr=1"], "leave out optimizer.lr=1"),
    ):
        with pytest.raises(BloodcellError, match=message):
            resume(folder, overrides)
        assert (folder / "run.json").read_bytes() == before
    resume(folder, ["trainer.max_epochs=4"])
    whole = tmp_path / "whole"
    train(compose(*LEARNING, f"data.root={images}", f"outputs={tmp_path}", "trainer.max_epochs=4"), whole)
    assert (folder / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_a_learning_rate_that_has_ended_goes_no_further(finished, scheduler):
    folder = finished(f"scheduler={scheduler}")
    history = (folder / "history.csv").read_bytes()
    with pytest.raises(BloodcellError, match=rf"rate ends with its last epoch .*; .*model\.weights={folder}"):
        resume(folder, ["trainer.max_epochs=4"])
    assert (folder / "history.csv").read_bytes() == history
    assert read_run(folder)["status"] == "finished"


def test_early_stopping_is_said_and_can_be_switched_off(finished):
    stopping = ("callbacks.early_stopping.patience=1", "optimizer.lr=1e-9", "trainer.max_epochs=30")
    folder = finished(*stopping, "+callbacks.early_stopping.min_delta=10")
    done = len(epochs_of(folder))
    assert done < 30
    with pytest.raises(BloodcellError, match=rf"ended training after epoch {done}; add callbacks\.early_stopping=null"):
        resume(folder, ["trainer.max_epochs=40"])
    assert read_run(folder)["status"] == "finished"
    resume(folder, [f"trainer.max_epochs={done + 1}", "callbacks.early_stopping=null"])
    assert len(epochs_of(folder)) == done + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume="], "resume= names no run; give resume=RUN, its folder"),
        (["-m", "resume=a,b"], "resume=a continues one run: give it to train alone, without -m"),
        (["resume=nowhere"], "resume=nowhere: no run there"),
        (["resume='nowhere'"], "resume=nowhere: no run there"),
    ],
)
def test_what_names_no_run_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main("train")
    output = capsys.readouterr()
    assert caught.value.code == 1
    assert message in " ".join((output.out + output.err).split())
