"""SIGKILL at random moments of a study: it goes on to exactly the trials that were asked for, and to the same best."""

import pandas as pd
import pytest

from bloodcell.cli import VERBS
from tests.faults.conftest import LEAN, Job
from tests.faults.test_kills import chains

pytestmark = pytest.mark.skipif("tune" not in VERBS, reason="there is no verb tune yet")

TRIALS = 6


@pytest.mark.parametrize("workers", [1, 2])
def test_tune(start, fault, moments, tmp_path, small, smears_of, workers):
    arguments = [*LEAN, *smears_of(small, 6, 2, 3), f"tune.trials={TRIALS}", f"tune.workers={workers}"]
    arguments += ["tune.pruner=null", f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}"]

    def job(name):
        folder = tmp_path / name
        return Job(lambda: start("tune", *arguments, f"study={folder}"), (folder / "study.db").exists)

    def table(name):
        return pd.read_csv(tmp_path / name / "trials.csv", keep_default_na=False).drop(columns="seconds")

    seconds = job("whole").seconds()
    for name in chains(job, [2], moments, seconds):
        job(name).start().end().assert_well()
        found = table(name)
        assert list(found["trial"]) == list(range(TRIALS))
        assert set(found["state"]) == {"complete"}
        if workers == 1:  # several finish in another order each time, from which later trials follow
            pd.testing.assert_frame_equal(found, table("whole"))
        fault("killed with SIGKILL: tune", 2)
