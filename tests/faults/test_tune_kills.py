"""A study that is killed or asked to end goes on to exactly the trials that were asked for, and to the same best."""

import pandas as pd
import pytest

from tests.faults.conftest import LEAN, Job
from tests.faults.test_kills import chains
from tests.faults.test_signals import ENDS, stopped

TRIALS = 6


@pytest.fixture(params=[1, 2])
def study(start, tmp_path, small, smears_of, request):
    """Return the job of a study by its name, and what asserts that it came to the end of the study `whole`."""
    workers = request.param
    arguments = [*LEAN, *smears_of(small, 6, 2, 3), f"tune.trials={TRIALS}", f"tune.workers={workers}"]
    arguments += ["tune.pruner=null", f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}"]

    def job(name):
        folder = tmp_path / name
        return Job(lambda: start("tune", *arguments, f"study={folder}"), (folder / "study.db").exists)

    def table(name):
        return pd.read_csv(tmp_path / name / "trials.csv", keep_default_na=False).drop(columns="seconds")

    def whole(name):
        found = table(name)
        assert list(found["trial"]) == list(range(TRIALS))
        assert set(found["state"]) == {"complete"}
        if workers == 1:  # several finish in another order each time, from which later trials follow
            pd.testing.assert_frame_equal(found, table("whole"))

    return job, whole


def test_killed(study, fault, moments):
    job, whole = study
    seconds = job("whole").seconds()
    for name in chains(job, [2], moments, seconds):
        job(name).start().end().assert_well()
        whole(name)
        fault("killed with SIGKILL: tune", 2)


def test_asked_to_end(study, fault, moments):
    job, whole = study
    seconds = job("whole").seconds()
    for number, delay in zip(ENDS, moments(2, seconds), strict=True):
        name = stopped(job, number, delay)
        job(name).start().end().assert_well()
        whole(name)
        fault(f"asked to end with {number.name}: tune")
