"""A study that is killed or asked to end finishes the trials that were asked for, and retries have the same values."""

import os
import signal
from collections import Counter

import optuna
import pandas as pd
import pytest

from tests.faults.conftest import LEAN, Job, wait_for
from tests.faults.test_kills import chains
from tests.faults.test_signals import ENDS, stopped

TRIALS = 6


@pytest.fixture(params=[1, 2])
def study(start, tmp_path, small, smears_of, request):
    """Return the job of a study by its name, and what asserts that it came to the trials of the study `whole`."""
    workers = request.param
    arguments = [*LEAN, *smears_of(small, 6, 2, 3), f"tune.trials={TRIALS}", f"tune.workers={workers}"]
    arguments += ["tune.pruner=null", f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}"]

    def job(name):
        folder = tmp_path / name
        return Job(lambda: start("tune", *arguments, f"study={folder}"), (folder / "study.db").exists)

    def whole(name):
        table = pd.read_csv(tmp_path / name / "trials.csv", keep_default_na=False)
        assert TRIALS <= len(table) < TRIALS + workers
        assert set(table["state"]) == {"complete"}
        retries = assert_retried(tmp_path / name)
        assert not retries & set(table["trial"])
        keys = [key for key in table if "." in key]
        assert not table.duplicated(keys).any()
        values = pd.read_csv(tmp_path / "whole" / "trials.csv").merge(table, on=keys)
        assert (values["value_x"] == values["value_y"]).all()  # of those whose values were the same
        if workers == 1:
            assert len(values) >= TRIALS - len(retries)  # one that was killed while it drew draws the others anew

    return job, whole


def assert_retried(folder):
    """Assert that each trial that is lost has one retry that ended, with its values; return the numbers of the lost."""
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}").trials
    lost = [trial for trial in trials if trial.state.name == "FAIL"]
    for trial in lost:
        retries = [one for one in trials if trial.number in one.system_attrs.get("retry_history", [])]
        assert Counter(one.state.name for one in retries)["COMPLETE"] == 1
        assert all(trial.params.items() <= one.params.items() for one in retries)
    return {trial.number for trial in lost}


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


def test_one_of_two_workers_is_killed(start, fault, tmp_path, small, smears_of):
    own = [*LEAN, "finetune=full", *smears_of(small, 6, 2, 3), "tune.trials=12", "tune.workers=2", "tune.pruner=null"]
    process = start("tune", *own, f"cache.root={tmp_path / 'cache'}", f"study={tmp_path / 'study'}")
    log = tmp_path / "study" / "worker-1.log"
    wait_for(lambda: log.exists() and "trial" in log.read_text(), "the second worker to be at work")
    (second,) = process.family()
    os.kill(second, signal.SIGKILL)
    ended = process.end()
    assert ended.code == 0
    assert "warning: worker 1 failed" in ended.err
    table = pd.read_csv(tmp_path / "study" / "trials.csv")
    assert len(table) in (12, 13)
    assert set(table["state"]) == {"complete"}
    assert_retried(tmp_path / "study")
    fault("worker process killed: tune")
