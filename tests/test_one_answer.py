"""One image, one answer: whatever computes it and whoever asks, the probabilities are the same."""

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.evaluating import evaluate
from bloodcell.predicting import predict

#: The most that a probability may differ by.
TOLERANCE = 1e-4
DATA = "data.reader.train_photographs=6", "data.reader.test_photographs=2", "data.reader.copies=3"


@pytest.fixture(scope="module")
def rows(learnt_run, smears):
    """Return the validation images' rows of the run's own predictions.csv, paths absolute."""
    table = pd.read_csv(learnt_run / "predictions.csv", dtype={"path": str, "source": str})
    table = table[table["split"] == "val"]
    return table.assign(path=[str(smears.root / path) for path in table["path"]])


@pytest.fixture(scope="module")
def holders(learnt_run, exported):
    """Return what a classifier may be loaded from."""
    return {"run": learnt_run, "onnx": exported("onnx"), "torch": exported("torch")}


def agree(found, rows):
    """Assert that a table by path has the probabilities of the rows, which differ from image to image."""
    chances = [name for name in rows if name.startswith("p_")]
    assert np.ptp(rows[chances].to_numpy(), axis=0).max() > 100 * TOLERANCE
    ordered = found.set_index("path").loc[rows["path"]]
    np.testing.assert_allclose(ordered[chances].to_numpy(), rows[chances].to_numpy(), rtol=0, atol=TOLERANCE)
    assert list(ordered["prediction"]) == list(rows["prediction"])


@pytest.mark.parametrize("holder", ["run", "onnx", "torch"])
def test_python(holders, rows, holder):
    agree(bloodcell.load(holders[holder], device="cpu").predict(list(rows["path"])), rows)


@pytest.mark.parametrize("holder", ["run", "onnx", "torch"])
def test_predict(holders, rows, compose, tmp_path, holder):
    cfg = compose(f"checkpoint={holders[holder]}", f"output={tmp_path / 'o.csv'}", "device=cpu", verb="predict")
    cfg.images = list(rows["path"])
    assert predict(cfg)["images"] == len(rows)
    agree(pd.read_csv(tmp_path / "o.csv"), rows)


@pytest.mark.parametrize("holder", ["run", "onnx", "torch"])
@pytest.mark.parametrize("tta", ["none", "flips"])
def test_evaluate(holders, rows, smears, compose, tmp_path, holder, tta):
    choices = ["data=synthetic", *DATA, "splits=[val]", f"tta={tta}", "figures=false", "report=false", "device=cpu"]
    tables = []
    for number, checkpoint in enumerate(dict.fromkeys([holders["run"], holders[holder]])):
        folder = tmp_path / str(number)
        evaluate(compose(f"checkpoint={checkpoint}", *choices, verb="evaluate"), folder)
        table = pd.read_csv(folder / "predictions.csv", dtype={"path": str, "source": str})
        tables.append(table.assign(path=[str(smears.root / path) for path in table["path"]]))
    if tta == "none":
        agree(tables[-1], rows)
    agree(tables[-1], tables[0])


def test_a_run_and_its_files_together(holders, rows):
    """The mean of three that are the same is each of them."""
    agree(bloodcell.load(list(holders.values()), device="cpu").predict(list(rows["path"])), rows)


# The page: here follows the test that what it answers to an upload of each of `rows` agrees.
