"""One image, one answer: whatever computes it and whoever asks, the probabilities are the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.inference.predict import predict
from tests.app.conftest import start  # noqa: F401 - a fixture
from tests.conftest import BARE

#: The most that a probability may differ by.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def rows(learnt_run, smears):
    """Return the validation images' rows of the run's own predictions.csv, paths absolute."""
    table = pd.read_csv(learnt_run / "predictions.csv", dtype={"path": str, "source": str})
    table = table[table["split"] == "val"]
    return table.assign(path=[str(smears.root / path) for path in table["path"]])


@pytest.fixture(scope="module")
def holders(learnt_run, exported):
    """Return what a classifier may be loaded from."""
    return {"run": learnt_run, "onnx": exported("onnx")}


def agree(found, rows):
    """Assert that a table by path has the probabilities of the rows, which differ from image to image."""
    chances = [name for name in rows if name.startswith("p_")]
    assert np.ptp(rows[chances].to_numpy(), axis=0).max() > 50 * TOLERANCE
    ordered = found.set_index("path").loc[rows["path"]]
    np.testing.assert_allclose(ordered[chances].to_numpy(), rows[chances].to_numpy(), rtol=0, atol=TOLERANCE)
    assert list(ordered["prediction"]) == list(rows["prediction"])


@pytest.mark.parametrize("holder", ["run", "onnx"])
def test_python(holders, rows, holder):
    agree(bloodcell.load(holders[holder], device="cpu").predict(list(rows["path"])), rows)


@pytest.mark.parametrize("holder", ["run", "onnx"])
def test_predict(holders, rows, compose, tmp_path, holder):
    cfg = compose(f"checkpoint={holders[holder]}", f"output={tmp_path / 'o.csv'}", "device=cpu", verb="predict")
    cfg.images = list(rows["path"])
    assert predict(cfg)["images"] == len(rows)
    agree(pd.read_csv(tmp_path / "o.csv"), rows)


@pytest.mark.parametrize("tta", ["none", "flips"])
def test_evaluate(holders, rows, smears, compose, tmp_path, tta):
    own = rows.assign(path=[str(Path(path).relative_to(smears.root)) for path in rows["path"]])
    own[["path", "label", "split"]].to_csv(tmp_path / "own.csv", index=False)
    data = ["data=table", f"data.table={tmp_path / 'own.csv'}", f"data.root={smears.root}"]
    choices = [*data, f"tta={tta}", "figures=false", "report=false", "device=cpu"]
    tables = {}
    for holder, file in holders.items():
        evaluate(compose(f"checkpoint={file}", *choices, *BARE, verb="evaluate"), tmp_path / holder)
        tables[holder] = pd.read_csv(tmp_path / holder / "predictions.csv", dtype={"path": str})
        agree(tables[holder], own if tta == "none" else tables["run"])
    assert (tmp_path / "onnx" / "gain.json").is_file() == (tta == "flips")


def test_a_run_and_its_file_together(holders, rows):
    """The mean of two that are the same is each of them."""
    agree(bloodcell.load(list(holders.values()), device="cpu").predict(list(rows["path"])), rows)


@pytest.mark.parametrize("holder", ["run", "onnx"])
def test_page(start, holders, rows, holder):  # noqa: F811 - a fixture
    page = start(run=holders[holder])
    answers = [page.examine(Path(path).read_bytes(), path) for path in rows["path"]]
    assert {status for status, _ in answers} == {200}
    chances = [answer["probabilities"] for _, answer in answers]
    table = pd.DataFrame(chances, columns=[name for name in rows if name.startswith("p_")])
    table["path"], table["prediction"] = list(rows["path"]), [answer["prediction"] for _, answer in answers]
    agree(table, rows)
