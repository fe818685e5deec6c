"""What is claimed of real data, where it is present; run by `make test-all`."""

import os
from pathlib import Path

import pytest

from bloodcell.training.train import train

DATA, WEIGHTS = (os.environ.get(name) for name in ("BLOODCELL_DATA", "BLOODCELL_WEIGHTS"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not (DATA and WEIGHTS), reason="BLOODCELL_DATA and BLOODCELL_WEIGHTS are not set"),
]


def test_the_notebook_is_reproduced(compose, tmp_path):
    cfg = compose("experiment=notebook", f"data.root={DATA}", f"model.weights={WEIGHTS}", f"outputs={tmp_path}")
    metrics = train(cfg, Path(tmp_path) / "run")
    assert (metrics["val/images"], metrics["test/images"], metrics["test_simple/images"]) == (1992, 2487, 71)
    assert metrics["val/accuracy"] >= 0.85
    assert 0.45 <= metrics["test/accuracy"] <= 0.68
