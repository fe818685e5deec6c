"""The moving average of the weights: what it is, and that what is validated is what is saved."""

import json

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.models.classifier import load_checkpoint, load_classifier
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.callbacks.ema import MovingAverage, decay_after
from bloodcell.training.train import train
from tests.conftest import BARE, QUICK, SMALL
from tests.models.conftest import build, state_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode"),
]


def test_the_decay_grows_to_its_value():
    assert [decay_after(steps, 0.5) for steps in (1, 2, 5, 8, 100)] == [2 / 11, 3 / 12, 6 / 15, 0.5, 0.5]
    assert decay_after(8989, 0.999) < decay_after(8991, 0.999) == decay_after(10**6, 0.999) == 0.999


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none(decay):
    with pytest.raises(BloodcellError, match=rf"callbacks\.average\.decay={decay}; give a number from 0 to below 1"):
        MovingAverage(decay)


class Trace(pl.Callback):
    """Keeps the weights after each step, and at validation."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.steps.append(state_of(module))

    def on_validation_batch_start(self, trainer, module, batch, index, dataloader_idx=0):
        if index == 0:
            self.validated.append(state_of(module))


@pytest.mark.parametrize("finetune", ["frozen", "full"])
def test_the_average_is_the_one_computed_by_hand(fit, loader, finetune, tmp_path):
    classifier, trace = build(finetune), Trace()
    trainer = fit(classifier, loader, epochs=2, callbacks=[trace, MovingAverage(0.6)])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    expected, averages = dict(trace.steps[0]), []
    for number, state in enumerate(trace.steps):
        decay = min(0.6, (1 + number) / (10 + number))
        for key, value in state.items():
            if number and value.is_floating_point():
                expected[key] = decay * expected[key] + (1 - decay) * value
            else:
                expected[key] = value
        averages.append(dict(expected))
    saved = {key[4:]: v for key, v in load_checkpoint(tmp_path / "a.ckpt")["state_dict"].items() if key[:4] == "net."}
    for state, average in ((trace.validated[0], averages[2]), (trace.validated[1], averages[5]), (saved, averages[5])):
        assert set(state) == set(average)
        for key, value in state.items():
            torch.testing.assert_close(value, average[key], rtol=1e-5, atol=1e-7)
    assert all(torch.equal(value, state_of(classifier)[key]) for key, value in saved.items())  # training ends with it
    assert not torch.equal(saved["head.logits.weight"], trace.steps[-1]["head.logits.weight"])
    frozen = [key for key in saved if key.startswith("backbone") and finetune == "frozen"]
    assert all(torch.equal(saved[key], trace.steps[0][key]) for key in frozen)


@pytest.fixture(scope="module")
def averaged_run(compose, tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged") / "run"
    extra = ["callbacks=ema", "finetune=full", "augment=light", "trainer.max_epochs=3", "calibrate=false"]
    train(compose(*QUICK, *SMALL, *extra, f"outputs={folder.parent}"), folder)
    return folder


def test_the_saved_average_gives_the_figures_that_were_logged(averaged_run, compose, tmp_path):
    history = pd.read_csv(averaged_run / "history.csv")
    metrics = json.loads((averaged_run / "metrics.json").read_text())
    assert metrics["val/loss"] == pytest.approx(history["val/loss"].min(), abs=1e-5)
    again = evaluate(
        compose(f"checkpoint={averaged_run}", "device=cpu", *BARE, verb="evaluate"), tmp_path / "evaluation"
    )
    assert again["val/loss"] == pytest.approx(history["val/loss"].min(), abs=1e-5)
    assert again["val/accuracy"] == pytest.approx(history.loc[history["val/loss"].idxmin(), "val/accuracy"], abs=1e-6)


def test_a_checkpoint_holds_the_average_and_what_training_goes_on_with(averaged_run):
    file = averaged_run / "checkpoints" / "last.ckpt"
    checkpoint, loaded = load_checkpoint(file), load_classifier(file).state_dict()
    average, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert all(torch.equal(loaded[key], value) for key, value in average.items())
    assert not torch.equal(average["net.head.logits.weight"], current["net.head.logits.weight"])
    key = "net.backbone.0.1.num_batches_tracked"
    assert average[key] == current[key] == checkpoint["global_step"]


def test_a_small_power_keeps_what_came_long_before():
    kept = 1.0
    for steps in range(30, 100):
        kept *= decay_after(steps, 0.9999, power=1)
    assert kept == pytest.approx((31 / 101) * (32 / 102))  # the first 30 % have about 0.3 squared
    assert decay_after(40, 0.9, power=0) == 0.9


def test_a_power_that_is_none():
    with pytest.raises(BloodcellError, match=r"callbacks\.average\.power=-1; give a number of 0 or more"):
        MovingAverage(power=-1)
