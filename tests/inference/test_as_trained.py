"""Whoever loads a classifier predicts as at the end of its training, unless something else is asked for."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import bloodcell
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.inference.exported.metadata import About, read_about
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import predict
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import checkpoint_of
from bloodcell.runtime.schema.data import FeaturesConfig, InferenceConfig
from bloodcell.training.train import train
from tests.conftest import BARE, QUICK, SMALL


@pytest.fixture(scope="module")
def run(compose, tmp_path_factory):
    """Train a small network whose run ended with tta=flips and features.backend=eager."""
    folder = tmp_path_factory.mktemp("runs") / "flips"
    learning = ("finetune=full", "optimizer=sgd", "optimizer.lr=0.03", "data.batch_size=8", "callbacks=to_the_end")
    choices = (
        "trainer.max_epochs=4",
        "trainer.precision=32-true",
        "evaluate.tta=flips",
        "evaluate.figures=false",
        "logger=none",
        f"outputs={folder.parent}",
    )
    train(compose(*QUICK, *SMALL, *learning, *choices), folder)
    return folder


def test_evaluate_gives_the_figures_of_the_run(run, compose, tmp_path):
    again = evaluate(compose(f"checkpoint={run}", "device=cpu", *BARE, verb="evaluate"), tmp_path / "again")
    before = json.loads((run / "metrics.json").read_text())
    assert {key: value for key, value in again.items() if "/" in key} == {
        key: value for key, value in before.items() if "/" in key
    }
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    other = evaluate(compose(f"checkpoint={run}", "device=cpu", "tta=none", *BARE, verb="evaluate"), tmp_path / "none")
    assert other["val/loss"] != before["val/loss"]


def test_predict_and_python_give_the_probabilities_of_the_run(run, compose, tmp_path):
    rows = pd.read_csv(run / "predictions.csv").query("split == 'test'")
    images = [str(file) for file in files_of(run, rows)]
    columns = [name for name in rows if name.startswith("p_")]
    found = bloodcell.load(run, device="cpu").predict(images)
    np.testing.assert_allclose(found[columns], rows[columns], atol=1e-6)
    plain = bloodcell.load(run, device="cpu", tta="none").predict(images)
    assert np.abs(plain[columns].to_numpy() - rows[columns].to_numpy()).max() > 1e-4
    given = "[" + ",".join(images) + "]"
    output = tmp_path / "found.csv"
    predict(compose(f"checkpoint={run}", f"images={given}", f"output={output}", "device=cpu", verb="predict"))
    np.testing.assert_allclose(pd.read_csv(output)[columns], rows[columns], atol=1e-6)


def files_of(run, rows):
    from bloodcell.data.samples import read_samples

    samples = read_samples(run / "samples.csv")
    return [samples.root / path for path in rows["path"]]


def test_a_checkpoint_says_how_it_predicts(run, quick_run, tmp_path):
    (engine,) = load_engines(run, "cpu")
    assert engine.tta == "flips"
    assert engine.trained().inference == InferenceConfig(tta="flips", backend="eager")
    assert engine.extractor.backbone.asked == "eager"
    (engine,) = load_engines(run, "cpu", FeaturesConfig(backend="onnx"))
    assert engine.extractor.backbone.asked == "onnx"
    content = torch.load(checkpoint_of(run), weights_only=True)
    torch.save({key: value for key, value in content.items() if key != "inference"}, tmp_path / "older.ckpt")
    assert load_classifier(tmp_path / "older.ckpt").inference == InferenceConfig()
    torch.save({**content, "inference": {"tta": "d5"}}, tmp_path / "odd.ckpt")
    with pytest.raises(BloodcellError, match="tta=d5"):
        load_classifier(tmp_path / "odd.ckpt")


def test_an_ensemble_takes_the_largest(run, quick_run):
    assert bloodcell.load([quick_run, run]).ensemble.tta == "flips"
    assert bloodcell.load([quick_run, run], tta="none").ensemble.tta == "none"


def test_an_exported_file_says_so_too():
    about = About(["a", "b"], 1.0, Preprocessing(32), "net", ("", ""), tta="d4")
    assert read_about(about.text()).tta == "d4"
    older = {key: value for key, value in json.loads(about.text()).items() if key != "tta"}
    assert read_about(json.dumps(older)).tta == "none"
