"""Features of training images in integers: used if they are fast and exact enough; all that is judged is in float32."""

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.data.samples import read_samples
from bloodcell.inference import quantisation
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training import integer_features
from bloodcell.training.fit import classifier_of, extractor_of, feature_rows
from bloodcell.training.integer_features import learning_extractor
from bloodcell.training.train import samples_of, train
from tests.conftest import QUICK, SMALL

INTEGERS = (*QUICK, *SMALL, "features.backend=auto", "features.precision=int8")


@pytest.fixture
def limits(monkeypatch):
    """Set what integers must gain and may lose, as so small a net gains nothing: limits(rate, lost)."""
    monkeypatch.setattr(quantisation, "has_int8_products", lambda: True)

    def set_limits(rate, lost):
        limits = {"LEAST_RATE": rate, "MOST_LOST": lost, "ROUNDS": 1, "SECONDS": 0.01, "CALIBRATION": 8}
        for name, value in limits.items():
            monkeypatch.setattr(quantisation, name, value)

    return set_limits


def test_a_head_learns_from_integers_and_is_judged_in_float32(compose, tmp_path, limits, capsys, monkeypatch):
    limits(0.0, 100.0)
    choices = (*INTEGERS, f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}")
    train(compose(*choices), tmp_path / "run")
    assert "features of training images in integers: " in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    images = read_samples(tmp_path / "run" / "samples.csv").of_split("val").paths()
    predicted = bloodcell.load(tmp_path / "run", device="cpu", backend="onnx").predict(images)
    columns = [name for name in table if name.startswith("p_")]
    recorded = table.loc[table["split"] == "val", columns].to_numpy()
    np.testing.assert_allclose(predicted[columns].to_numpy(), recorded, atol=1e-6)

    monkeypatch.setattr(integer_features, "_measured", None)  # what was measured is known
    train(compose(*choices, "optimizer.lr=0.002"), tmp_path / "again")
    assert "features of training images in integers: " in capsys.readouterr().out


def test_each_row_is_of_its_own_image(compose, tmp_path, limits):
    limits(0.0, 100.0)
    config = typed(compose(*INTEGERS, f"cache.root={tmp_path}"), TrainConfig)
    samples = samples_of(config)
    mixed = samples.__class__(samples.table.sample(frac=1, random_state=0).reset_index(drop=True), samples.root)
    classifier = classifier_of(config, mixed)
    extractor = extractor_of(config, classifier, "cpu")
    learner = learning_extractor(config.features, mixed, extractor)
    rows = feature_rows(0, classifier, mixed, extractor, learner).numpy()
    trains = (mixed.table["split"] == "train").to_numpy()
    float32 = extractor.features(mixed)[:].numpy()
    assert (rows[~trains] == float32[~trains]).all()
    assert (rows[trains] == learner.features(mixed.of_split("train"))[:].numpy()).all()
    assert (rows[trains] != float32[trains]).any()
    error = ((rows - float32)[trains] ** 2).sum() / ((float32 - float32.mean(axis=0))[trains] ** 2).sum()
    assert error < 0.2, error


@pytest.mark.parametrize(("rate", "lost"), [(1000.0, 100.0), (0.0, -200.0)])
def test_integers_that_are_slow_or_inexact_end_the_run(compose, tmp_path, limits, rate, lost):
    limits(rate, lost)
    with pytest.raises(BloodcellError, match=r"times the rate of float32, .* points less are wanted; leave features"):
        train(compose(*INTEGERS, f"cache.root={tmp_path / 'cache'}"), tmp_path / "run")
    assert not list(tmp_path.glob("cache/features/*/measured.json"))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (["finetune=full"], "is for kept features"),
        (["augment=light"], "is for kept features"),
        (["features.cache=off"], "is for kept features"),
        (["features.backend=eager"], "features.backend=auto or onnx"),
        (["features.precision=int4"], "choose null, float32, bf16 or int8"),
    ],
)
def test_where_integers_cannot_be_that_is_said(compose, tmp_path, choices, words):
    with pytest.raises(BloodcellError, match=words):
        train(compose(*INTEGERS, *choices), tmp_path / "run")


def test_predictions_in_integers_take_a_file(quick_run, tmp_path):
    from bloodcell.inference.loader import load_engines
    from bloodcell.runtime.schema.data import FeaturesConfig

    with pytest.raises(BloodcellError, match="give a file in integers"):
        load_engines(quick_run, "cpu", FeaturesConfig(precision="int8"))
