"""Steps of the head that Lightning takes as one batch: the same weights, and not if anything looks at single ones."""

import pytest
import torch

from bloodcell.models.classifier import load_checkpoint
from bloodcell.training import fit, steps
from bloodcell.training.train import resume, train
from tests.conftest import QUICK

HEAD = (*QUICK, "data=imagefolder", "finetune=frozen", "augment=none", "logger=none", "calibrate=false",
        "data.batch_size=4", "trainer.max_epochs=3", "callbacks.early_stopping.patience=9")  # fmt: skip


@pytest.fixture
def trained(compose, class_folders, tmp_path, monkeypatch):
    """Train a head: trained(name, steps at a time, *overrides) -> (last checkpoint, steps at a time that were used)."""
    root = class_folders({"a": 24, "b": 24})
    used = []

    def noted(*args):
        used.append(steps.steps_together(*args))
        return used[-1]

    def run(name, together, *choices):
        monkeypatch.setattr(steps, "TOGETHER", together)
        monkeypatch.setattr(fit, "steps_together", noted)
        train(compose(*HEAD, f"data.root={root}", f"outputs={tmp_path}", *choices), tmp_path / name)
        return load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt"), used[-1]

    return run


@pytest.mark.parametrize("choices", [(), ("model.head.hidden=8", "model.head.dropout=0.5", "loss=robust")])
def test_several_steps_at_a_time_give_the_same_weights(trained, choices):
    single, one = trained("single", 1, *choices)
    several, three = trained("several", 3, *choices)
    assert (one, three) == (1, 3)
    assert single["global_step"] == several["global_step"] > 9
    assert all(torch.equal(value, several["state_dict"][name]) for name, value in single["state_dict"].items())
    first, second = (one["callbacks"]["History"]["rows"] for one in (single, several))
    assert first == second


@pytest.mark.parametrize(
    "choice",
    [
        "trainer.max_steps=100", "trainer.gradient_clip_val=1", "trainer.accumulate_grad_batches=2",
        "trainer.limit_train_batches=2", "trainer.profiler=simple", "trainer.val_check_interval=0.5",
        "trainer.precision=bf16-mixed", "scheduler=cosine", "scheduler=plateau", "callbacks=ema", "finetune=full",
        "features.cache=off",
        "+callbacks.often={_target_: pytorch_lightning.callbacks.ModelCheckpoint, every_n_train_steps: 5}",
        "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer}",
    ],
)  # fmt: skip
def test_what_looks_at_single_batches_gets_them(trained, choice):
    _, together = trained("run", 64, choice)
    assert together == 1


def test_a_run_of_single_steps_goes_on_by_several(trained, monkeypatch, tmp_path):
    whole, _ = trained("whole", 3)
    trained("begun", 1, "trainer.max_epochs=2")
    monkeypatch.setattr(steps, "TOGETHER", 3)
    resume(tmp_path / "begun", ["trainer.max_epochs=3"])
    again = load_checkpoint(tmp_path / "begun" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(value, again["state_dict"][name]) for name, value in whole["state_dict"].items())
