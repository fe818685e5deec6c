"""Runs of the release before: their configuration and checkpoints load, are evaluated, and go on."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.models.classifier import Classifier
from bloodcell.models.weights import write_checkpoint
from bloodcell.training.train import resume, train
from tests.conftest import BARE

#: The config.yaml that the release before wrote: targets at their old places, and no key that has come since.
OLDER = Path(__file__).with_name("older_run.yaml")


def as_before(checkpoint):
    """Give a checkpoint the hyper-parameters that the release before wrote: only what its configuration named."""
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["finetune"] = {"name": "full"}
    content["hyper_parameters"]["loss"].pop("robust")
    write_checkpoint(content, checkpoint)


@pytest.fixture
def configured(tmp_path):
    saved = OmegaConf.load(OLDER)
    saved.outputs = str(tmp_path)
    return saved


def test_its_callbacks_are_found_where_they_are_now(configured):
    targets = {node["_target_"] for node in configured.callbacks.values()}
    assert {
        "bloodcell.callbacks.stopping.EarlyStopping",
        "bloodcell.callbacks.averaging.MovingAverage",
    } <= targets


def test_an_interrupted_run_goes_on_to_the_same_end(configured, compose, tmp_path, monkeypatch):
    whole = train(configured, tmp_path / "whole")
    start = Classifier.on_train_epoch_start

    def stops_in_the_third_epoch(self):
        if self.current_epoch == 2:
            raise RuntimeError("pulled the plug")
        start(self)

    monkeypatch.setattr(Classifier, "on_train_epoch_start", stops_in_the_third_epoch)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(configured, tmp_path / "older")
    monkeypatch.setattr(Classifier, "on_train_epoch_start", start)
    OmegaConf.save(configured, tmp_path / "older" / "config.yaml")
    for name in ("best.ckpt", "last.ckpt"):
        as_before(tmp_path / "older" / "checkpoints" / name)
    assert resume(tmp_path / "older", []) == whole
    assert (tmp_path / "older" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()


def test_a_finished_run_is_evaluated_to_the_same_figures(configured, compose, tmp_path):
    configured.trainer.max_epochs = 2
    metrics = train(configured, tmp_path / "older")
    as_before(tmp_path / "older" / "checkpoints" / "best.ckpt")
    own = [f"checkpoint={tmp_path / 'older'}", "device=cpu", "features.backend=eager", "figures=false", "report=false"]
    again = evaluate(compose(*own, *BARE, verb="evaluate"), tmp_path / "again")
    assert again == {name: metrics[name] for name in again}
    assert json.loads((tmp_path / "again" / "evaluation.json").read_text())["tta"] == "none"
