"""A run calibrates its probabilities where it can, its checkpoint keeps how, and no prediction changes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

import bloodcell
from bloodcell.data.samples import Samples, read_samples
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.inference.calibration import calibrate, keep_calibration, temperature_obstacle
from bloodcell.metrics.predictions import matrix_of, predictions_table
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.metrics.reliability import fit_temperature, tempered
from bloodcell.models.classifier import load_checkpoint, load_classifier
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.data import InferenceConfig
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.train import train
from tests.conftest import BARE, QUICK, SMALL
from tests.test_ensemble import shaken, shaken_and_reversed

RUN = (*QUICK, *SMALL, "evaluate.figures=false", "evaluate.tta=flips")


def warm(change, temperature):
    def changed(checkpoint):
        change(checkpoint)
        checkpoint["temperature"] = temperature

    return changed


def cold(change):
    def changed(checkpoint):
        change(checkpoint)
        checkpoint.pop("temperature", None)

    return changed


def predicted(folder):
    return read_predictions(folder / "predictions.csv")


@pytest.mark.parametrize(
    ("overrides", "calibrates"),
    [([], True), (["data.fold=1"], False), (["data.fold=1", "calibrate=true"], True), (["calibrate=false"], False)],
)
def test_folds_are_not_calibrated_unless_asked(compose, overrides, calibrates):
    assert typed(compose(*overrides), TrainConfig).calibrates is calibrates


def test_the_saved_configuration_of_an_older_run_is_not_calibrated(compose):
    saved = OmegaConf.to_container(compose(), resolve=True)
    del saved["calibrate"], saved["limits"]
    config = typed(OmegaConf.create(saved), TrainConfig)
    assert not config.calibrates
    assert not config.limits


@pytest.fixture
def split(tmp_path):
    """Return samples and the predictions of their validation part: split(change=...) -> (samples, predictions)."""

    def made(**changes):
        table = pd.DataFrame(
            {
                "path": [f"{i}.png" for i in range(80)],
                "label": ["a", "b"] * 40,
                "split": ["train"] * 40 + ["val"] * 40,
                "source": [f"s{i // 2}" for i in range(80)],
                "set": "",
            }
        ).assign(**changes)
        val = table[table["split"] == "val"]
        right = (val["label"] == "a").to_numpy() ^ (np.arange(len(val)) % 7 == 0)
        top = np.where(right, 0.99, 0.01)
        return Samples(table, tmp_path), predictions_table(val, ["a", "b"], np.stack([top, 1 - top], axis=1))

    return made


def test_validation_must_be_of_unseen_sources(split):
    names = np.array([f"s{i // 2}" for i in range(80)], dtype=object)
    assert temperature_obstacle(*split()) is None
    found = temperature_obstacle(*split(source=np.where(np.arange(80) == 60, "", names)))
    assert found == "the sources of the val images, or of training images beside them, are unknown; an audit finds them"
    assert temperature_obstacle(*split(source=np.where(np.arange(80) == 3, "", names))) == found
    shared = temperature_obstacle(*split(source=np.where(np.arange(80) < 5, "s30", names)))
    assert shared == "2 val images share a source with training; data.split=grouped keeps them apart"
    sets = np.where(np.arange(80) < 20, "other", "mine")  # one that trains alone need not be known
    assert temperature_obstacle(*split(set=sets, source=np.where(np.arange(80) == 3, "", names))) is None
    samples, predictions = split()
    right = predictions.assign(prediction=predictions["label"])
    assert temperature_obstacle(samples, right).startswith("all val images are right")


def test_the_temperature_is_kept_as_a_plain_number(split, quick_run, tmp_path):
    samples, predictions = split()
    before = load_checkpoint(quick_run / "checkpoints" / "best.ckpt")
    fitted = calibrate(samples, predictions, ["a", "b"], None, "none", limits=False)
    keep_calibration(fitted, InferenceConfig(), before, tmp_path / "a.ckpt")
    temperature, (line,) = fitted.temperature, fitted.lines
    expected = (20 * 34 / 40 + 40 * 0.99) / 60  # 34 of 40 images of 20 sources are right, and 40 sources are imagined
    assert (
        temperature
        == fit_temperature(predictions)
        == pytest.approx(np.log(99) / np.log(expected / (1 - expected)), rel=1e-4)
    )
    few = f"20 val sources, fewer than 40, move the temperature little, to {temperature:.2f}; on these"
    assert line.startswith(f"probabilities are barely calibrated: {few}")
    assert line.endswith(f"error is {expected - 34 / 40:.3f}, 0.140 without it")
    after = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert type(after["temperature"]) is float
    assert after["temperature"] == temperature
    assert set(after) == {*before, "temperature"}
    assert all(torch.equal(value, after["state_dict"][key]) for key, value in before["state_dict"].items())
    assert load_classifier(tmp_path / "a.ckpt").net.temperature == temperature

    twice = Samples(samples.table.assign(source=[f"s{i}" for i in range(80)]), samples.root)
    many = predictions.assign(source=[f"s{i}" for i in range(40, 80)])
    (line,) = calibrate(twice, many, ["a", "b"], None, "none", limits=False).lines
    assert line.startswith("probabilities are calibrated by 40 val sources: temperature ")

    unknown = Samples(samples.table.assign(source=""), samples.root)
    fitted = calibrate(unknown, predictions, ["a", "b"], None, "none", limits=False)
    keep_calibration(fitted, InferenceConfig(), before, tmp_path / "b.ckpt")
    assert fitted.temperature == 1
    assert not (tmp_path / "b.ckpt").exists()


def test_a_checkpoint_without_temperature_has_1_and_an_odd_one_is_refused(another):
    run = another("old", cold(shaken))
    assert load_classifier(run / "checkpoints" / "best.ckpt").net.temperature == 1
    for number, odd in enumerate((0.0, -1.0, float("nan"), float("inf"), "2", None)):
        run = another(f"odd{number}", warm(shaken, odd))
        with pytest.raises(BloodcellError, match=r"best\.ckpt: its temperature is .* which is no number above 0"):
            load_classifier(run / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("tta", ["none", pytest.param("flips", marks=pytest.mark.slow)])
def test_every_way_to_probabilities_takes_each_members_temperature(another, compose, tmp_path, tta):
    """Before the mean over the members, after that over the symmetries, which changes no prediction of a net."""
    nets = {"a": (shaken, 2.5), "b": (shaken_and_reversed, 0.4)}
    before, after = {}, {}
    for name, (change, temperature) in nets.items():
        for tables, run in (
            (before, another(f"{name}cold", cold(change))),
            (after, another(f"{name}warm", warm(change, temperature))),
        ):
            folder = tmp_path / f"{run.name}_out"
            own = [f"checkpoint={run}", "device=cpu", "figures=false", f"tta={tta}"]
            evaluate(compose(*own, *BARE, verb="evaluate"), folder)
            tables[name] = predicted(folder)
        assert after[name]["prediction"].tolist() == before[name]["prediction"].tolist()
        np.testing.assert_allclose(matrix_of(after[name]), tempered(matrix_of(before[name]), temperature), rtol=1e-12)
        assert np.abs(matrix_of(after[name]) - matrix_of(before[name])).max() > 0.01
    runs = [tmp_path / f"{name}warm" for name in nets]
    own = [f"checkpoint=[{','.join(map(str, runs))}]", "device=cpu", "figures=false", f"tta={tta}"]
    evaluate(compose(*own, *BARE, verb="evaluate"), tmp_path / "both")
    both = matrix_of(predicted(tmp_path / "both"))
    np.testing.assert_allclose(both, (matrix_of(after["a"]) + matrix_of(after["b"])[:, ::-1]) / 2, rtol=1e-12)

    root = read_samples(runs[0] / "samples.csv").root
    files = [root / path for path in after["a"]["path"][:6]]
    for given, expected in ((runs[0], matrix_of(after["a"])), (runs, both)):
        table = bloodcell.load(given, device="cpu", tta=tta).predict(files)
        np.testing.assert_allclose(matrix_of(table), expected[:6], atol=1e-4)


def test_a_run_is_calibrated_and_predicts_the_same(compose, tmp_path, capsys):
    folders = {}
    for asked in ("true", "false"):
        folders[asked] = tmp_path / asked
        train(compose(*RUN, f"calibrate={asked}", f"outputs={tmp_path}"), folders[asked])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("probabilities are barely calibrated: ") == 1
    tables = {asked: predicted(folder) for asked, folder in folders.items()}
    metrics = {asked: json.loads((folder / "metrics.json").read_text()) for asked, folder in folders.items()}
    temperature = fit_temperature(tables["false"].query("split == 'val'"))
    assert metrics["true"]["temperature"] == pytest.approx(temperature, rel=1e-9)
    assert metrics["false"]["temperature"] == 1
    assert tables["true"]["prediction"].tolist() == tables["false"]["prediction"].tolist()
    expected = tempered(matrix_of(tables["false"]), metrics["true"]["temperature"])
    np.testing.assert_allclose(matrix_of(tables["true"]), expected, rtol=1e-12)
    for split in ("val", "test"):
        assert metrics["true"][f"{split}/accuracy"] == metrics["false"][f"{split}/accuracy"]
        assert {f"{split}/ece", f"{split}/brier"} <= set(metrics["true"])
    kept = [torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True) for folder in folders.values()]
    assert kept[0]["temperature"] == metrics["true"]["temperature"]
    assert "temperature" not in kept[1]
    same = ["tta=flips", "device=cpu", "features.backend=eager", "figures=false"]  # as the run computed
    again = evaluate(
        compose(f"checkpoint={folders['true']}", *same, *BARE, verb="evaluate"),
        tmp_path / "again",
    )
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == (folders["true"] / "predictions.csv").read_bytes()
    assert again == {name: metrics["true"][name] for name in again}


def test_a_random_split_is_not_calibrated_and_says_why(compose, tmp_path, capsys):
    metrics = train(compose(*RUN, "data.split=random", f"outputs={tmp_path}"), tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    assert "probabilities are not calibrated: " in said
    assert "val images share a source with training; data.split=grouped keeps them apart" in said
    assert metrics["temperature"] == 1
    assert "temperature" not in load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
