"""What is claimed of exported files, on real images; run by `make test-all`."""

import os
from pathlib import Path

import numpy as np
import pytest

import bloodcell
from bloodcell.exports.export import export
from bloodcell.training.train import train

DATA, WEIGHTS = (os.environ.get(name) for name in ("BLOODCELL_DATA", "BLOODCELL_WEIGHTS"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not (DATA and WEIGHTS), reason="BLOODCELL_DATA and BLOODCELL_WEIGHTS are not set"),
]


def test_a_net_of_cells_answers_alike_from_all_its_files(compose, tmp_path):
    run = Path(tmp_path) / "run"
    choices = ("experiment=cell_frozen", "trainer.max_epochs=2", "evaluate.test=false", "evaluate.figures=false")
    train(compose(*choices, "data=kaggle", f"data.root={DATA}", f"model.weights={WEIGHTS}", f"outputs={tmp_path}"), run)
    files = sorted((Path(DATA) / "dataset2-master/dataset2-master/images/TRAIN").rglob("*.jpeg"))[::200]
    table = bloodcell.load(run, device="cpu").predict(files)
    expected = table.filter(like="p_").to_numpy()
    assert np.ptp(expected, axis=0).min() > 0.2
    for form, ending in (("torch", ".pt2"), ("onnx", ".onnx")):  # each is compared with the checkpoint as it is written
        output = tmp_path / f"cells{ending}"
        file = export(compose(f"checkpoint={run}", f"format={form}", f"output={output}", verb="export"))
    found = bloodcell.load(file, device="cpu").predict(files)
    np.testing.assert_allclose(found.filter(like="p_").to_numpy(), expected, rtol=0, atol=1e-4)
    assert list(found["cell"]) == list(table["cell"])
