"""How many trials a study comes to, whatever happens to its workers."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("optuna", reason="it comes with the extra tune")

import optuna

from bloodcell import cli
from bloodcell.runtime.errors import BloodcellError
from bloodcell.tuning import storage, workers
from bloodcell.tuning.objective import Objective
from bloodcell.tuning.storage import finished_trials, open_storage, open_study, without_password
from tests.conftest import QUICK, SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tune(monkeypatch, tmp_path):
    """Run the verb with a value in place of a training: tune(value, "tune.trials=3") -> exit code.

    `value` takes how many trials there were before in this process.
    """

    def run(value, *arguments):
        calls = []

        def instead(self, params, report):
            calls.append(params)
            return value(len(calls) - 1)

        monkeypatch.setattr(Objective, "value", instead)
        monkeypatch.setattr(sys, "argv", ["tune.py", *QUICK, *SMALL, f"study={tmp_path / 'study'}", *arguments])
        try:
            cli.main("tune")
        except SystemExit as leave:
            return leave.code or 0
        return 0

    return run


def table(folder):
    return pd.read_csv(folder / "study" / "trials.csv", keep_default_na=False)


def values_of(rows):
    """Return the trials' own values, each as text."""
    keys = [name for name in rows.columns if "." in name]
    return [json.dumps(row) for row in rows[keys].to_dict("records")]


@pytest.mark.slow
def test_one_worker_draws_the_same_trials_each_time(tune, tmp_path):
    assert tune(lambda number: number / 10, "tune.trials=4") == 0
    first = table(tmp_path)
    (tmp_path / "study").rename(tmp_path / "before")
    assert tune(lambda number: number / 10, "tune.trials=2") == 0
    assert tune(lambda number: (number + 2) / 10, "tune.trials=4") == 0
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), table(tmp_path).drop(columns="seconds"))
    assert len(set(values_of(first))) == 4


@pytest.mark.slow
def test_an_interrupted_trial_is_retried_with_its_values(tune, tmp_path, capsys):
    def interrupted(number):
        if number == 2:
            raise KeyboardInterrupt
        return 0.5

    assert tune(lambda number: 0.5, "tune.trials=4") == 0
    undisturbed = table(tmp_path)
    (tmp_path / "study").rename(tmp_path / "before")
    assert tune(interrupted, "tune.trials=4") == 130
    assert len(table(tmp_path)) == 2
    assert "interrupted" in capsys.readouterr().err
    assert tune(lambda number: 0.5, "tune.trials=4") == 0
    assert sorted(values_of(table(tmp_path))) == sorted(values_of(undisturbed))
    assert set(table(tmp_path)["state"]) == {"complete"}
    assert "4 trials: 4 complete" in capsys.readouterr().out


def test_a_failed_trial_counts_with_its_reason(tune, tmp_path, capsys):
    def failing(number):
        if number == 1:
            raise RuntimeError("out of\nmemory")
        return float("nan") if number == 2 else 0.5

    assert tune(failing, "tune.trials=4") == 0
    assert list(table(tmp_path)["state"]) == ["complete", "fail", "fail", "complete"]
    assert table(tmp_path)["error"][1] == "RuntimeError: out of memory"
    assert "the training diverged" in table(tmp_path)["error"][2]
    assert "4 trials: 2 complete, 2 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_whose_first_trials_all_fail_stops_and_continues_once_that_is_mended(tune, tmp_path, capsys):
    def failing(number):
        raise BloodcellError(f"no weights {number}")

    assert tune(failing, "tune.trials=9") == 1
    assert "the first 5 trials all failed, the last one so: no weights 4" in capsys.readouterr().err
    assert list(table(tmp_path)["error"]) == [f"no weights {number}" for number in range(5)]
    assert tune(failing, "tune.trials=9") == 1
    assert "the first 6 trials all failed" in capsys.readouterr().err
    assert tune(lambda number: 0.5, "tune.trials=9") == 0
    assert list(table(tmp_path)["state"]) == ["fail"] * 6 + ["complete"] * 3


def test_no_complete_trial_is_an_error(tune, capsys):
    def failing(number):
        raise BloodcellError("no weights")

    assert tune(failing, "tune.trials=2") == 1
    error = capsys.readouterr().err
    assert "no trial is complete (2 trials: 2 failed)" in error
    assert "trials.csv" in error


WORKER = """
import os, signal, sys, time
from pathlib import Path
import optuna
from bloodcell.tuning import storage, workers
storage.HEARTBEAT, storage.GRACE, storage.RETRIES = 1, 2, 1
storage.require_optuna()
folder, wanted, deadly = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def objective(trial):
    value = trial.suggest_float("a", 0, 1)
    if deadly == "now" or (deadly == "once" and trial.number == 3):
        os.kill(os.getpid(), signal.SIGKILL)
    if deadly == "sleep":
        time.sleep(0.05)
    return value
opened = storage.open_storage(None, folder)
study = storage.open_study(opened, "s", "maximize", {"data": "x"})
study.sampler = optuna.samplers.RandomSampler()
workers.work(study, opened, objective, wanted, lambda: None)
"""


@pytest.fixture
def worker(tmp_path):
    """Start a process that works on a study of numbers; it may kill itself: worker(5, "once") -> Popen."""
    storage.require_optuna()
    return lambda wanted, deadly: subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), str(wanted), deadly], cwd=ROOT
    )


def study_in(folder):
    opened = open_storage(None, folder)
    return opened, open_study(opened, "s", "maximize", {"data": "x"})


@pytest.mark.slow
def test_a_killed_workers_trial_is_retried_with_its_values(worker, tmp_path):
    assert worker(6, "once").wait(60) == -9
    assert worker(6, "no").wait(60) == 0
    opened, study = study_in(tmp_path)
    (lost,) = [trial for trial in study.trials if trial.state.name == "FAIL"]
    finished = finished_trials(study)
    assert [trial.state.name for trial in finished] == ["COMPLETE"] * 6
    assert [trial.params for trial in finished if trial.number > 3].count(lost.params) == 1
    opened.engine.dispose()


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_in_the_end(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "RETRIES", 1)
    assert worker(1, "now").wait(60) == -9
    assert worker(1, "now").wait(60) == -9  # after waiting for the dead one's heartbeat
    assert worker(2, "no").wait(60) == 0
    opened, study = study_in(tmp_path)
    finished = finished_trials(study)
    assert Counter(trial.state.name for trial in finished) == {"FAIL": 1, "COMPLETE": 1}
    assert "its process ended 2 times" in next(filter(None, map(storage.failure, finished)))
    opened.engine.dispose()


def test_a_worker_that_died_before_its_first_heartbeat_is_retried(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "GRACE", 1)
    storage.require_optuna()
    opened, study = study_in(tmp_path)
    opened.create_new_trial(opened.get_study_id_from_name("s"))
    workers.work(study, opened, lambda trial: trial.suggest_float("a", 0, 1), 2, lambda: None)
    assert [trial.state.name for trial in finished_trials(study)] == ["COMPLETE"] * 2
    opened.engine.dispose()


@pytest.mark.slow
def test_several_workers_finish_what_is_asked_for(worker, tmp_path):
    started = [worker(40, "sleep") for _ in range(3)]
    assert [one.wait(120) for one in started] == [0, 0, 0]
    opened, study = study_in(tmp_path)
    trials = finished_trials(study)
    assert 40 <= len(trials) <= 42  # each but one may have begun a trial too many
    assert len({trial.params["a"] for trial in trials}) == len(trials)
    opened.engine.dispose()


def test_a_trial_that_another_worker_closed_does_not_end_this_one(tmp_path):
    storage.require_optuna()
    opened, study = study_in(tmp_path)

    def objective(trial):
        if trial.number == 0:  # this machine slept, and another took it for dead
            number = opened.get_trial_id_from_study_id_trial_number(opened.get_study_id_from_name("s"), 0)
            opened.set_trial_state_values(number, optuna.trial.TrialState.FAIL)
            trial.report(0.5, 0)
        return trial.suggest_float("a", 0, 1)

    workers.work(study, opened, objective, 2, lambda: None)
    assert len(finished_trials(study)) == 2
    opened.engine.dispose()


def test_a_changed_study_is_refused(tmp_path):
    storage.require_optuna()
    opened, _ = study_in(tmp_path)
    with pytest.raises(BloodcellError, match=r"'s' has another data \(x, now y\); give study=ANOTHER_FOLDER"):
        open_study(opened, "s", "maximize", {"data": "y"})
    opened.engine.dispose()


def test_no_password_is_written_down():
    given = "tune.storage=postgresql://me:se:cret@host/name a:b@c"
    assert without_password(given) == "tune.storage=postgresql://me:***@host/name a:b@c"


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x/y"])
def test_something_that_is_no_storage(url, tmp_path):
    storage.require_optuna()
    with pytest.raises(BloodcellError, match=rf"tune\.storage={url}: .*; give a URL such as"):
        open_storage(url, tmp_path)
