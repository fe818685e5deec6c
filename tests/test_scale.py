"""The recipe of docs/scale.md: two workers of Ray give the answers of one process."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

import bloodcell
from bloodcell.data.samples import read_samples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"


@pytest.fixture
def workers(monkeypatch):
    """Start Ray on this machine alone, with two workers."""
    ray = pytest.importorskip("ray", reason="it comes with the extra scale")
    pytest.importorskip("ray.data", reason="it comes with the extra scale")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    path = os.pathsep.join([str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": path}}
    ray.init(
        num_cpus=4, include_dashboard=False, runtime_env=environment, log_to_driver=False, _node_ip_address="127.0.0.1"
    )
    yield 2
    ray.shutdown()


def test_two_workers_give_the_answers_of_one_process(workers, exported, learnt_run):
    (recipe,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {"__name__": "__main__"}
    exec(recipe, names)
    paths = [str(path) for path in read_samples(learnt_run / "samples.csv").paths()[:12]]
    file = str(exported("onnx"))
    table = names["predicted"](paths, file, workers).to_pandas().sort_values("path", ignore_index=True)
    expected = bloodcell.load(file, device="cpu").predict(sorted(paths), cells="one")
    pd.testing.assert_frame_equal(table, expected[list(table)], check_dtype=False)
