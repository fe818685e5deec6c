"""Evaluating and predicting with another laboratory's batch-norm statistics."""

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.data.samples import read_samples
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import BARE


def learned(checkpoint):
    """Make of the quick run, which is frozen, what says that its batch norm learnt."""
    checkpoint["hyper_parameters"]["finetune"] = {"name": "full"}
    checkpoint["temperature"] = 1.0  # its own levels all differences, as a net that learnt so little should not be sure


def turned_labels(table):
    """Give each image the label of another, within its split."""
    return table.assign(label=table.groupby("split")["label"].transform(lambda labels: np.roll(labels, 7)))


def test_adaptation_changes_the_statistics_and_uses_no_label(another, compose, tmp_path, capsys):
    run, other = another("full", learned), another("turned", learned, turned_labels)
    tables = {}
    for name, of, adapt in (("none", run, "none"), ("adapted", run, "batch_norm"), ("turned", other, "batch_norm")):
        options = (f"checkpoint={of}", "splits=[train,val,test]", f"adapt={adapt}")
        evaluate(compose(*options, *BARE, verb="evaluate"), tmp_path / f"out_{name}")
        tables[name] = pd.read_csv(tmp_path / f"out_{name}" / "predictions.csv")
    said = capsys.readouterr().out
    assert said.count("of these images, without their labels (adapt=batch_norm)") == 2
    columns = [name for name in tables["none"] if name.startswith("p_")]
    assert (tables["adapted"]["label"] != tables["turned"]["label"]).any()
    pd.testing.assert_frame_equal(tables["adapted"][columns], tables["turned"][columns])
    changed = (tables["none"][columns] - tables["adapted"][columns]).abs().to_numpy().max()
    assert changed > 0.001


def test_the_predictor_adapts_as_evaluate_does(another, compose, tmp_path):
    run = another("full", learned)
    config = compose(f"checkpoint={run}", "splits=[train]", "adapt=batch_norm", *BARE, verb="evaluate")
    evaluate(config, tmp_path / "adapted")
    table = pd.read_csv(tmp_path / "adapted" / "predictions.csv")
    files = read_samples(run / "samples.csv").of_split("train").paths()
    plain_predictor = bloodcell.load(run)
    before = plain_predictor.predict(files[:4])
    adapted = plain_predictor.adapt(files).predict(files)
    with pytest.raises(BloodcellError, match="adapt=batch_norm needs 32 images of the new laboratory; there are 3"):
        plain_predictor.adapt(files[:3])
    columns = [name for name in table if name.startswith("p_")]
    np.testing.assert_allclose(adapted[columns], table[columns], atol=1e-4)
    pd.testing.assert_frame_equal(plain_predictor.predict(files[:4]), before)  # the first one is as it was


def test_images_of_one_class_are_warned_of(another, capsys):
    def sure(checkpoint):
        learned(checkpoint)
        checkpoint["state_dict"]["net.head.logits.bias"][2] += 100.0

    run = another("sure", sure)
    files = read_samples(run / "samples.csv").of_split("train").paths()
    bloodcell.load(run).adapt(files)
    assert "takes 100 % of these images for MONOCYTE; if they are, adapt=batch_norm makes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "change", "message"),
    [
        ("adapt=batch_norm", None, "adapt=batch_norm needs a net that was trained with finetune=full"),
        ("adapt=batchnorm", learned, "adapt=batchnorm; choose none or batch_norm"),
    ],
)
def test_what_cannot_be_adapted_is_one_clear_line(another, compose, tmp_path, option, change, message):
    with pytest.raises(BloodcellError, match=message):
        evaluate(compose(f"checkpoint={another('run', change)}", option, *BARE, verb="evaluate"), tmp_path / "out")


def test_gradual_training_that_ended_early_cannot_be_adapted(another, compose, tmp_path):
    def begun(checkpoint):
        checkpoint["hyper_parameters"]["finetune"] = {"name": "gradual", "head_epochs": 1}

    with pytest.raises(BloodcellError, match="adapt=batch_norm needs a net that was trained with finetune=full"):
        evaluate(
            compose(f"checkpoint={another('run', begun)}", "adapt=batch_norm", *BARE, verb="evaluate"), tmp_path / "out"
        )
