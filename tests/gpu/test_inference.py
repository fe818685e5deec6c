"""Evaluation, prediction and export: a GPU gives the CPU's answers."""

import numpy as np
import pytest
import torch

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.exports.export import export
from bloodcell.inference.backends import Backbone
from bloodcell.inference.predict import predict
from bloodcell.inference.predictor import load
from bloodcell.models.classifier import load_classifier
from tests.conftest import BARE
from tests.gpu.conftest import DEVICE, assert_agree


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_evaluation_agrees_with_the_cpu(compose, full_run, tmp_path, tta):
    for number, device in enumerate(("cpu", DEVICE)):
        given = [f"checkpoint={full_run}", f"device={device}", f"tta={tta}", "features.backend=eager", *BARE]
        evaluate(compose(*given, verb="evaluate"), tmp_path / f"{number}")
    assert_agree(*(tmp_path / number / "predictions.csv" for number in "01"))


def test_the_training_itself_said_the_same(compose, full_run, tmp_path):
    given = [f"checkpoint={full_run}", "device=cpu", "features.backend=eager", "splits=[val,test]", *BARE]
    evaluate(compose(*given, verb="evaluate"), tmp_path / "cpu")
    assert_agree(full_run / "predictions.csv", tmp_path / "cpu" / "predictions.csv")


def test_prediction_agrees_with_the_cpu(compose, full_run, smears, tmp_path):
    for number, device in enumerate(("cpu", DEVICE)):
        given = [f"checkpoint={full_run}", f"images={smears.root}/images", f"device={device}", "features.backend=eager"]
        counts = predict(compose(*given, f"output={tmp_path}/{number}.csv", verb="predict"))
        assert counts["images"] >= len(smears.table)
        assert not counts["bad"]
    assert_agree(tmp_path / "0.csv", tmp_path / "1.csv")


def test_a_frozen_run_answers_alike(frozen_run, smears):
    files = [str(file) for file in smears.of_split("test").files()]
    mine, theirs = (load(frozen_run, device, backend="eager").predict(files) for device in (DEVICE, "cpu"))
    columns = [name for name in mine if name.startswith("p_")]
    np.testing.assert_allclose(mine[columns], theirs[columns], atol=1e-3, rtol=0)
    assert (mine["prediction"] == theirs["prediction"]).mean() > 0.95


def test_the_exported_file_answers_as_the_gpu_does(compose, full_run, smears, tmp_path):
    file = export(compose(f"checkpoint={full_run}", f"output={tmp_path}/model.onnx", verb="export"))
    files = [str(file) for file in smears.of_split("test").files()]
    mine, theirs = load(full_run, DEVICE, backend="eager").predict(files), load(file, "cpu").predict(files)
    columns = [name for name in mine if name.startswith("p_")]
    assert mine[columns].to_numpy().std(axis=0).max() > 0.01
    np.testing.assert_allclose(mine[columns], theirs[columns], atol=1e-3, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_backbone_alone(full_run, smears, precision):
    """Float32 is float32, with 24 bits and not the 11 of TF32."""
    net = load_classifier(full_run / "checkpoints" / "last.ckpt").net
    images = np.random.default_rng(0).integers(0, 256, (150, 64, 64, 3), np.uint8)
    wanted = Backbone(net, 64, "eager").forward().all(images)
    here = Backbone(net, 64, "eager", precision, DEVICE)
    found = here.forward().all(images)
    assert found.dtype == np.float32
    assert "tf32" not in here.name.split()
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert error < (1e-4 if precision == "float32" else 0.08)
    assert here.forward().batch == (64 if DEVICE == "cuda" else 32)


@pytest.mark.timeout(400)
def test_compiled_features_are_the_eager_ones(full_run):
    net = load_classifier(full_run / "checkpoints" / "last.ckpt").net
    images = np.random.default_rng(0).integers(0, 256, (70, 64, 64, 3), np.uint8)
    eager, compiled = (Backbone(net, 64, backend, "float32", DEVICE) for backend in ("eager", "compile"))
    wanted, found = (one.forward().all(images) for one in (eager, compiled))
    assert compiled.backend == "compile"  # it fell back to nothing else
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-4


def test_adaptation_agrees_with_the_cpu(full_run, smears):
    files = [str(file) for file in smears.of_split("train").files()][:40]
    mine, theirs = (load(full_run, device, backend="eager").adapt(files) for device in (DEVICE, "cpu"))
    state = [one.ensemble.engines[0].trained().net.state_dict() for one in (mine, theirs)]
    assert state[0].keys() == state[1].keys()
    for name, value in state[0].items():
        torch.testing.assert_close(value.cpu(), state[1][name], atol=1e-4, rtol=1e-3)
