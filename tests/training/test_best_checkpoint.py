"""The best checkpoint, whatever else `callbacks.best` keeps, and callbacks that the user adds."""

import json

import pandas as pd
import pytest

from bloodcell.models.classifier import load_checkpoint
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import resume, train
from tests.conftest import QUICK, SMALL

#: The loss jumps up and down, so that the best epoch is not the last.
RESTLESS = (
    *QUICK,
    *SMALL,
    "finetune=full",
    "optimizer.lr=0.03",
    "logger=none",
    "calibrate=false",
    "evaluate.test=false",
)
KEPT = "callbacks.best.filename"


def run(compose, folder, *choices, epochs=4):
    train(compose(*RESTLESS, f"trainer.max_epochs={epochs}", f"outputs={folder.parent}", *choices), folder)
    return folder


def best_of(folder):
    """Return the epoch of the lowest validation loss, from 1."""
    history = pd.read_csv(folder / "history.csv")
    return int(history.loc[history["val/loss"].idxmin(), "epoch"])


@pytest.mark.parametrize(
    ("choices", "files"),
    [
        ([], {"best.ckpt"}),
        ([f"{KEPT}=model"], {"best.ckpt", "model.ckpt"}),
        pytest.param([f"{KEPT}='{{epoch}}'"], None, marks=pytest.mark.slow),
        (["+callbacks.best.save_top_k=3"], None),
        pytest.param(["+callbacks.best.save_top_k=-1"], None, marks=pytest.mark.slow),
    ],
)
def test_the_chosen_weights_are_those_of_the_best_epoch(compose, tmp_path, choices, files):
    folder = run(compose, tmp_path / "run", *choices)
    chosen = load_checkpoint(run_folder.checkpoint_of(folder))
    assert run_folder.checkpoint_of(folder).name == "best.ckpt"
    assert chosen["epoch"] + 1 == best_of(folder)
    assert json.loads((folder / "metrics.json").read_text())["best_epoch"] == best_of(folder)
    there = {file.name for file in (folder / "checkpoints").iterdir()} - {"last.ckpt"}
    assert files is None or there == files
    if "save_top_k=3" in str(choices):
        assert len(there) == 4
        losses = pd.read_csv(folder / "history.csv").set_index("epoch")["val/loss"]
        epochs = {load_checkpoint(folder / "checkpoints" / name)["epoch"] + 1 for name in there}
        assert epochs == set(losses.nsmallest(3).index)


def test_the_best_may_be_kept_elsewhere_and_a_resumed_run_still_knows_it(compose, tmp_path):
    elsewhere = f"callbacks.best.dirpath={tmp_path / 'elsewhere'}"
    choices = (f"+{elsewhere}", f"{KEPT}=model")
    folder = run(compose, tmp_path / "run", *choices, epochs=3)
    (tmp_path / "moved").mkdir()
    folder = folder.rename(tmp_path / "moved" / "run")
    resume(folder, ["trainer.max_epochs=5", elsewhere])
    assert load_checkpoint(folder / "checkpoints" / "best.ckpt")["epoch"] + 1 == best_of(folder)
    assert load_checkpoint(tmp_path / "elsewhere" / "model.ckpt")["epoch"] + 1 == best_of(folder)


def test_without_any_best_the_last_is_chosen(compose, tmp_path):
    folder = run(compose, tmp_path / "run", "+callbacks.best.save_top_k=0", epochs=2)
    assert run_folder.checkpoint_of(folder).name == "last.ckpt"
    assert json.loads((folder / "metrics.json").read_text())["best_epoch"] == 2


def test_another_checkpoint_may_watch_the_same_loss(compose, tmp_path):
    node = "{_target_: pytorch_lightning.callbacks.ModelCheckpoint, monitor: val/loss, filename: mine}"
    folder = run(compose, tmp_path / "run", f"+callbacks.mine={node}")
    best, mine = (load_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "mine"))
    assert best["epoch"] == mine["epoch"] == best_of(folder) - 1


LIGHTNING = "pytorch_lightning.callbacks"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("callbacks.best.monitor=val/los", r"callbacks\.best\.monitor=val/los; did you mean 'val/loss'\?"),
        ("callbacks.best.monitor=val/accuracy", r"callbacks\.best\.mode=min, but a higher val/accuracy is better"),
        ("callbacks.early_stopping.monitor=val/macro_f", r"callbacks\.early_stopping\.monitor=.*'val/macro_f1'"),
        ("callbacks.early_stopping.mode=max", r"callbacks\.early_stopping\.mode=max, but a lower val/loss is better"),
        ("callbacks.best.filename=last", r"callbacks\.best\.filename=last is that of callbacks\.last; give another"),
        ("callbacks.last.filename=final", r"callbacks\.last: resume=RUN needs last\.ckpt; leave out filename"),
        ("callbacks.best.monitor=null", r"callbacks\.best: it compares whole epochs by a monitor"),
        (f"+callbacks.x._target_={LIGHTNING}.BackboneFinetuning", r"callbacks\.x: BackboneFin.*use finetune=gradual"),
        (f"+callbacks.x._target_={LIGHTNING}.LearningRateFinder", r"LearningRateFinder.*use the verb find-lr"),
        (f"+callbacks.x._target_={LIGHTNING}.BatchSizeFinder", r"BatchSizeFinder.*set data\.batch_size"),
        (f"+callbacks.x._target_={LIGHTNING}.StochasticWeightAveraging", r"StochasticWeight.*use callbacks=ema"),
        (f"+callbacks.x._target_={LIGHTNING}.RichProgressBar", r"use trainer\.enable_progress_bar"),
    ],
)
def test_what_training_cannot_keep_its_word_with_is_refused(compose, tmp_path, choice, message):
    with pytest.raises(BloodcellError, match=message):
        run(compose, tmp_path / "run", choice)


def test_harmless_callbacks_work(compose, tmp_path):
    run(
        compose, tmp_path / "run", f"+callbacks.timer._target_={LIGHTNING}.Timer",
        f"+callbacks.steps={{_target_: {LIGHTNING}.GradientAccumulationScheduler, scheduling: {{0: 2}}}}",
        f"+callbacks.rates._target_={LIGHTNING}.LearningRateMonitor", "logger=csv", epochs=1,
    )  # fmt: skip
    assert run_folder.read_run(tmp_path / "run")["status"] == "finished"
