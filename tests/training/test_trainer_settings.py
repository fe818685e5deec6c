"""Settings of Lightning's Trainer: what they do, which run is marked as partial, and what is refused."""

import contextlib
import json

import pandas as pd
import pytest
import torch

from bloodcell.models.classifier import load_checkpoint
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import read_run
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.find_lr import find_lr
from bloodcell.training.train import train
from tests.conftest import QUICK

LEARNING = (*QUICK, "data=imagefolder", "finetune=full", "logger=none", "data.batch_size=8", "calibrate=false")


@pytest.fixture
def trained(compose, class_folders, tmp_path):
    """Train on few images: trained("trainer.x=1") -> run folder."""
    root = class_folders({"a": 12, "b": 12})

    def run(*choices, name="run"):
        folder = tmp_path / name
        train(compose(*LEARNING, f"data.root={root}", f"outputs={tmp_path}", *choices), folder)
        return folder

    return run


def weights_of(folder):
    return load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.slow)])
def test_gradients_are_clipped_in_mixed_precision(trained, optimizer):
    choices = (f"optimizer={optimizer}", "trainer.max_epochs=1", "trainer.precision=bf16-mixed")
    tiny = weights_of(trained(*choices, "optimizer.weight_decay=0", "trainer.gradient_clip_val=1e-12", name="tiny"))
    none = weights_of(trained(*choices, "optimizer.weight_decay=0", name="none"))
    moved = {key for key, value in none.items() if value.is_floating_point() and not torch.equal(value, tiny[key])}
    assert "net.head.logits.weight" in moved
    assert all(bool(torch.isfinite(value).all()) for value in tiny.values())


def test_without_clipping_the_optimizer_stays_fused(trained):
    for name, choices, fused in (
        ("plain", [], True),
        ("exact", ["trainer.gradient_clip_val=1.0", "trainer.precision=32-true"], True),
        ("mixed", ["trainer.gradient_clip_val=1.0", "trainer.precision=bf16-mixed"], False),
    ):
        state = load_checkpoint(trained("trainer.max_epochs=1", *choices, name=name) / "checkpoints" / "last.ckpt")
        assert state["optimizer_states"][0]["param_groups"][0]["fused"] is fused


def test_the_learning_rate_finder_clips_too(compose, class_folders, tmp_path):
    choices = ("trainer.gradient_clip_val=1.0", "trainer.precision=bf16-mixed", "finder.steps=10")
    root = class_folders({"a": 12, "b": 12})
    with contextlib.suppress(BloodcellError):  # the images are noise, so it may find none
        find_lr(compose(*LEARNING, f"data.root={root}", *choices, verb="find-lr"), tmp_path / "run")
    assert len(pd.read_csv(tmp_path / "run" / "lr_finder.csv")) > 1


@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_last_image_alone_joins_the_batch_before(trained, in_memory):
    folder = trained("model.image_size=28", f"data.in_memory={in_memory}", "data.epoch_size=9", "trainer.max_epochs=1")
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 1


def test_a_single_image_is_too_little_for_batch_norm(trained, monkeypatch):
    from bloodcell.runtime.user_errors import user_message

    with pytest.raises(ValueError, match="more than 1 value") as caught:
        trained("model.image_size=28", "data.epoch_size=1")
    assert user_message(caught.value).startswith("batch norm cannot learn from a batch of one image this small; set")


@pytest.mark.parametrize(
    ("choice", "steps"),
    [
        ("trainer.fast_dev_run=true", 1),
        ("trainer.fast_dev_run=2", 2),
        ("trainer.overfit_batches=1", 2),
        ("trainer.overfit_batches=0.5", 2),
        ("trainer.limit_train_batches=1", 2),
        ("trainer.limit_val_batches=1", None),
    ],
)
def test_a_run_with_fewer_batches_is_marked(trained, choice, steps, capsys):
    with_page = choice == "trainer.limit_val_batches=1"
    folder = trained(choice, f"report={str(with_page).lower()}")
    said = " ".join(capsys.readouterr().out.split())
    note = f"note: {choice.replace('true', 'True')}: not all batches are used; no figure is that of a full run"
    assert said.count(note) == 2
    assert read_run(folder)["partial"] == choice.replace("true", "True")
    assert json.loads((folder / "metrics.json").read_text())["partial"] is True
    assert not with_page or "not all batches are used" in (folder / "report.html").read_text()
    state = load_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert steps in (None, state["global_step"])


def test_a_full_run_is_not_marked(trained, capsys):
    folder = trained("trainer.limit_train_batches=1.0", "trainer.max_epochs=1")
    assert "not all batches" not in capsys.readouterr().out
    assert read_run(folder)["partial"] is None
    assert "partial" not in json.loads((folder / "metrics.json").read_text())


def test_the_batches_to_overfit_stay_the_same(compose, class_folders):
    from bloodcell.data.datamodule import BloodCellDataModule
    from bloodcell.data.preprocessing import Preprocessing
    from bloodcell.training.train import samples_of

    root = class_folders({"a": 12, "b": 12})
    config = typed(compose(*LEARNING, f"data.root={root}"), TrainConfig)
    data = BloodCellDataModule(samples_of(config), ["a", "b"], Preprocessing(16), config.data, repeats=True)
    loader = data.train_dataloader()
    first = [labels.tolist() for _, labels in loader]
    loader.sampler.set_epoch(3)
    assert [labels.tolist() for _, labels in loader] == first
    assert {label for batch in first for label in batch} == {0, 1}


@pytest.mark.parametrize("name", ["simple", "advanced"])
def test_the_profile_is_a_file_that_is_named(trained, name, capsys):
    folder = trained(f"trainer.profiler={name}", "trainer.max_epochs=1")
    assert "fit-profile.txt" in capsys.readouterr().out.replace("\n", "")
    assert "run_training_epoch" in (folder / "fit-profile.txt").read_text()


def test_steps_may_end_before_the_first_validation(trained):
    folder = trained("trainer.max_steps=1")
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("trainer.precision=64-true", r"trainer\.precision=64-true; choose auto, 32-true, bf16-mixed or 16-mixed"),
        ("trainer.precision=16-true", r"trainer\.precision=16-true; choose"),
        ("trainer.strategy=ddp_spawn", r"trainer\.strategy=ddp_spawn: several devices learn by ddp; leave"),
        ("trainer.strategy=ddp_notebook", r"trainer\.strategy=ddp_notebook: several devices learn by ddp"),
        ("trainer.accelerator=tpu", r"trainer\.accelerator=tpu; choose auto, cpu, gpu, cuda or mps"),
        ("trainer.gradient_clip_val=-1", r"trainer\.gradient_clip_val=-1\.0; give a number of 0 or more"),
        ("trainer.gradient_clip_val=nan", r"trainer\.gradient_clip_val=nan; give"),
        ("trainer.profiler=xla", r"trainer\.profiler=xla; choose null, simple, advanced or pytorch"),
    ],
)
def test_what_does_not_work_is_one_line(compose, choice, message):
    with pytest.raises(BloodcellError, match=message):
        typed(compose(choice), TrainConfig)


@pytest.mark.parametrize("choice", ["trainer.precision=16", "trainer.precision=bf16", "trainer.strategy=ddp"])
def test_what_works_is_taken(compose, choice):
    assert typed(compose(choice), TrainConfig)


@pytest.mark.parametrize("key", ["fast_dev_run=true", "profiler=simple"])
def test_the_finder_has_its_own_length(compose, tmp_path, key):
    with pytest.raises(BloodcellError, match=rf"trainer\.{key.partition('=')[0]}=.*; find-lr"):
        find_lr(compose(*LEARNING, f"trainer.{key}", verb="find-lr"), tmp_path / "run")
