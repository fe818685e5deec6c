"""Features of training images in integers: used if they are fast and exact enough; all that is judged is in float32."""

import json

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.data.samples import Samples, read_samples
from bloodcell.inference import backends, quantisation
from bloodcell.inference.features import View
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training import integer_features
from bloodcell.training.find_lr import find_lr
from bloodcell.training.fit import classifier_of, extractor_of, training_rows
from bloodcell.training.integer_features import balanced_accuracy, training_extractor
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
        monkeypatch.setattr(integer_features, "LEAST_RATE", rate)

    return set_limits


def test_a_head_learns_from_integers_and_is_judged_in_float32(compose, tmp_path, limits, capsys):
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

    (measured,) = (tmp_path / "cache").glob("features/*/integers-*.json")
    written = measured.stat().st_mtime_ns
    train(compose(*choices, "optimizer.lr=0.002"), tmp_path / "again")
    assert "features of training images in integers: " in capsys.readouterr().out
    assert measured.stat().st_mtime_ns == written
    measured.write_text("{")  # damaged: it is measured anew
    find_lr(compose(*choices, "finder.steps=10", verb="find-lr"), tmp_path / "rate")
    assert "features of training images in integers: " in capsys.readouterr().out
    assert json.loads(measured.read_text())["images"] > 0


def test_each_row_is_of_its_own_image(compose, tmp_path, limits):
    limits(0.0, 100.0)
    choices = ("augment=light", "features.views=1", "data.crop=cell", "data.finder=1", f"cache.root={tmp_path}")
    config = typed(compose(*INTEGERS, *choices), TrainConfig)
    samples = samples_of(config)
    mixed = Samples(samples.table.sample(frac=1, random_state=0).reset_index(drop=True), samples.root)
    classifier = classifier_of(config, mixed)
    extractor = extractor_of(config, classifier, "cpu")
    learner = training_extractor(config.features, mixed, extractor)
    kept = {}
    both, _ = training_rows(config, classifier, mixed, extractor, learner, kept)
    rows, views = both.numpy()[: len(mixed.table)], both.numpy()[len(mixed.table) :]
    trains = (mixed.table["split"] == "train").to_numpy()
    float32 = extractor.features(mixed)[:].numpy()
    assert len(views) == trains.sum()
    assert (views == learner.features(mixed.of_split("train"), view=View(classifier.augment, 0))[:].numpy()).all()
    assert (rows[~trains] == float32[~trains]).all()
    assert (rows[trains] == learner.features(mixed.of_split("train"))[:].numpy()).all()
    assert (rows[trains] != float32[trains]).any()
    error = ((rows - float32)[trains] ** 2).sum() / ((float32 - float32.mean(axis=0))[trains] ** 2).sum()
    assert error < 0.7, error  # rows of other images would have some 2
    table = mixed.table.copy()  # one image changes its part with another
    one, other = np.flatnonzero(trains)[5], np.flatnonzero(~trains)[0]
    table.loc[[one, other], "split"] = table.loc[[other, one], "split"].to_numpy()
    again, _ = training_rows(config, classifier, Samples(table, mixed.root), extractor, learner, kept)
    assert (again.numpy()[one] == float32[one]).all()


def test_the_loss_is_of_sources_that_a_head_did_not_learn_from(smears):
    rows = smears.table.assign(source=[f"s{number // 2}" for number in range(len(smears.table))])
    values = np.random.default_rng(0).normal(size=(len(rows), 4)) + 9 * pd.get_dummies(rows["label"]).to_numpy(float)
    assert balanced_accuracy(values, values, rows) == 100
    assert balanced_accuracy(values, values[::-1], rows) < 60
    by_class = rows.assign(source=rows["label"])
    with pytest.raises(BloodcellError, match="fewer than two classes have training images of two sources"):
        balanced_accuracy(values, values, by_class)


@pytest.mark.parametrize(("rate", "lost"), [(1000.0, 100.0), (0.0, -200.0)])
def test_integers_that_are_slow_or_inexact_end_the_run(compose, tmp_path, limits, rate, lost):
    limits(rate, lost)
    with pytest.raises(BloodcellError, match=r"times the rate of float32.* points less are wanted; leave features"):
        train(compose(*INTEGERS, f"cache.root={tmp_path / 'cache'}"), tmp_path / "run")
    assert not list(tmp_path.glob("cache/features/*/integers-*.json"))


def test_a_processor_or_net_that_gains_nothing_is_told(compose, tmp_path, limits, monkeypatch):
    choices = (*INTEGERS, f"cache.root={tmp_path / 'cache'}")
    limits(0.0, 100.0)
    monkeypatch.setattr(backends, "exported", None)  # a net that the exporter cannot take
    with pytest.raises(BloodcellError, match="a net that they take; leave features.precision=int8 out"):
        train(compose(*choices), tmp_path / "one")
    monkeypatch.setattr(quantisation, "has_int8_products", lambda: False)
    with pytest.raises(BloodcellError, match="does not pay on this processor"):
        train(compose(*choices), tmp_path / "other")


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (["finetune=full"], "is for kept features"),
        (["augment=light"], "is for kept features"),
        (["features.cache=off"], "is for kept features"),
        (["features.backend=eager"], "and features.backend=auto"),
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
