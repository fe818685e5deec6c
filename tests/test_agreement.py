"""Training on kept features and training on images agree, whatever computes the features."""

import pandas as pd
import pytest
import torch

from bloodcell.models.classifier import load_checkpoint
from bloodcell.training.train import train
from tests.conftest import QUICK, SMALL

SAME = (*QUICK, *SMALL, "data.batch_size=32", "trainer.max_epochs=4", "evaluate.figures=false", "calibrate=false")


@pytest.fixture(scope="module")
def run(compose, tmp_path_factory):
    """Train: run("features.cache=off") -> (predictions, weights of the head)."""

    def trained(*overrides):
        folder = tmp_path_factory.mktemp("agreement") / "run"
        train(compose(*SAME, *overrides, f"outputs={folder.parent}", f"cache.root={folder.parent / 'cache'}"), folder)
        predictions = pd.read_csv(folder / "predictions.csv").set_index("path")
        state = load_checkpoint(folder / "checkpoints" / "best.ckpt")["state_dict"]
        return predictions, {key: value for key, value in state.items() if ".head." in key}

    return trained


def test_kept_features_and_images_train_the_same_head(run):
    (cached, head), (live, other) = run("features.backend=eager"), run("features.cache=off", "features.backend=eager")
    assert (cached["prediction"] == live["prediction"]).all()
    for key, value in head.items():
        torch.testing.assert_close(value, other[key], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_another_backend_changes_one_prediction_in_a_thousand_at_most(run):
    (eager, _), (onnx, _) = run("features.backend=eager"), run("features.backend=onnx")
    assert (eager["prediction"] == onnx["prediction"]).mean() >= 0.999
    columns = [name for name in eager if name.startswith("p_")]
    assert (eager[columns] - onnx[columns]).abs().to_numpy().max() < 1e-3


def test_images_that_are_read_in_each_epoch_are_the_images_in_memory(run):
    full = ("finetune=full", "augment=light", "trainer.max_epochs=2", "trainer.precision=32-true")
    (memory, _), (disk, _) = run(*full, "data.in_memory=true"), run(*full, "data.in_memory=false")
    assert (memory["prediction"] == disk["prediction"]).all()
    pd.testing.assert_frame_equal(memory, disk, check_exact=False, atol=1e-4)


@pytest.mark.slow
def test_fixed_views_are_trained_on(run, compose):
    views, head = run("augment=light", "features.views=2")
    assert len(views) > 0
    _, other = run("augment=light")
    assert any(not torch.equal(value, other[key]) for key, value in head.items())
