"""So many trials as were asked for, each once: with several workers, kills, and machines that fall silent."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("optuna")

import optuna
from optuna.trial import TrialState

from bloodcell.runtime.errors import BloodcellError
from bloodcell.tuning import trial_queue as slots_module
from bloodcell.tuning.search_space import Dimension, tidy
from bloodcell.tuning.storage import open_storage, open_study, silence, turn_of, without_password
from bloodcell.tuning.trial_queue import MOST_STARTS, Slots
from bloodcell.tuning.worker import HOPELESS, attempt, work

ROOT = Path(__file__).parents[2]
SPACE = [Dimension("a", 0.0, 1.0), Dimension("b", choices=(None, "x"))]


@pytest.fixture
def desk(tmp_path):
    """Open one study for several workers, each in a folder of its own where one is named: desk(wanted=3) -> Slots."""
    silence()
    opened = []

    def make(wanted=3, shared=False, pruner=None, folder="."):
        storage = open_storage(None, tmp_path)
        study = open_study(storage, "s", "maximize", {"data": "x"})
        study.pruner = pruner or optuna.pruners.NopPruner()
        slots = Slots(
            study, storage, wanted, tmp_path / folder, tmp_path / "turn", shared,
            lambda n: optuna.samplers.RandomSampler(seed=n),
        )  # fmt: skip
        opened.append(slots)
        return slots

    yield make
    for slots in opened:
        slots.close()
        slots.storage._backend.engine.dispose()


@pytest.fixture
def later(monkeypatch):
    """Let time pass: later(seconds)."""
    now = [1000.0]
    monkeypatch.setattr(slots_module.time, "monotonic", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


def values(trial):
    return {one.key: one.suggest(trial) for one in SPACE}


def die(slots):
    """Let go of the lock as the system does when a process is killed."""
    slots.life.release()


def test_trials_are_handed_out_once_and_no_more_than_asked_for(desk):
    one, other = desk(), desk()
    claimed = [one.claim(), other.claim(), one.claim()]
    assert [trial.number for trial in claimed] == [0, 1, 2]
    assert other.claim() is None
    assert len(one.storage.get_all_trials(one.study_id)) == 3


def test_a_dead_workers_trial_is_taken_over_with_its_values_and_once(desk):
    one, other, third = desk(), desk(), desk()
    trial = one.claim()
    drawn = values(trial)
    trial.report(0.25, 0)
    assert other.claim().number == 1
    die(one)
    again = third.claim()
    assert again.number == 0
    assert values(again) == drawn
    assert other.claim().number == 2
    third.finish(again, TrialState.COMPLETE, 0.5)
    one.finish(trial, TrialState.COMPLETE, 0.75)  # it was not dead after all: it is not heard
    assert [t.value for t in third.finished()] == [0.5]


def test_a_trial_that_nobody_signed_is_taken_over(desk):
    slots = desk()
    slots.storage.create_new_trial(slots.study_id)  # killed right after
    assert slots.claim().number == 0


def test_a_trial_that_is_put_back_waits_with_its_values(desk):
    one, other = desk(), desk()
    trial = one.claim()
    drawn = values(trial)
    one.release(trial)
    again = other.claim()
    assert again.number == 0
    assert values(again) == drawn


def test_a_trial_that_kills_its_workers_fails_in_the_end(desk):
    for start in range(MOST_STARTS):
        slots = desk(wanted=1)
        assert slots.claim().number == 0, start
        die(slots)
    last = desk(wanted=1)
    assert last.claim() is None
    (trial,) = last.finished()
    assert trial.state == TrialState.FAIL
    assert "its process ended 5 times" in trial.user_attrs["error"]


def test_more_trials_can_be_asked_for_later(desk):
    slots = desk(wanted=1)
    slots.finish(slots.claim(), TrialState.COMPLETE, 0.5)
    assert slots.claim() is None
    assert desk(wanted=2).claim().number == 1


def test_a_trial_that_another_machine_made_too_many_waits_unused(desk):
    slots = desk(wanted=1, shared=True)
    create, made = slots.storage.create_new_trial, []

    def beaten(study_id):
        made.append(create(study_id))  # of the other machine, between our look and our claim
        slots.storage.set_trial_user_attr(made[0], "owner", {"host": "elsewhere", "lock": "/x"})
        return create(study_id)

    slots.storage.create_new_trial = beaten
    assert slots.claim() is None
    assert [t.state for t in slots.storage.get_all_trials(slots.study_id)] == [TrialState.RUNNING, TrialState.WAITING]
    assert [t.number for t in slots.trials()] == [0]


def test_a_worker_of_another_machine_is_dead_when_it_is_silent(desk, later):
    slots = desk(wanted=1, shared=True)
    trial_id = slots.storage.create_new_trial(slots.study_id)
    slots.storage.set_trial_user_attr(trial_id, "owner", {"host": "elsewhere", "lock": "/x"})
    assert slots._next() is None
    later(slots_module.DEAD - 1)
    slots.storage.set_trial_user_attr(trial_id, "beat", 1)  # it lives
    assert slots._next() is None
    later(slots_module.DEAD - 1)
    assert slots._next() is None
    later(2)
    assert slots._next() == (0, trial_id)


def test_a_living_worker_gives_signs_of_life(desk, monkeypatch):
    monkeypatch.setattr(slots_module, "BEAT", 0.01)
    slots = desk(wanted=1)
    trial = slots.claim()
    deadline = time.monotonic() + 20
    while slots.storage.get_trial(trial._trial_id).user_attrs.get("beat", 0) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    slots.finish(trial, TrialState.COMPLETE, 0.5)
    assert slots.pulse is None


class Fake:
    """An objective that computes in place of training."""

    metric = "accuracy"

    def __init__(self, function):
        self.function = function

    def value(self, params, report):
        return self.function(params, report)


def test_a_failed_trial_is_a_failed_trial_and_the_study_goes_on(desk):
    def fails_at_times(params, report):
        if params["a"] > 0.5:
            raise RuntimeError("out of\nmemory")
        return params["a"]

    slots, ended = desk(wanted=8), []
    work(slots, Fake(fails_at_times), SPACE, ended.append)
    assert len(ended) == 8
    failed = [trial for trial in slots.finished() if trial.state == TrialState.FAIL]
    assert 0 < len(failed) < 8
    assert {trial.user_attrs["error"] for trial in failed} == {"RuntimeError: out of memory"}
    assert all(trial.params["a"] > 0.5 for trial in failed)


def test_a_figure_that_is_no_number_is_a_failure(desk):
    slots = desk(wanted=1)
    trial = slots.claim()
    assert attempt(trial, Fake(lambda params, report: float("nan")), SPACE) == (TrialState.FAIL, None)
    assert "diverged" in slots.trials()[0].user_attrs["error"]


def test_where_the_first_trials_all_fail_the_study_ends(desk, tmp_path):
    def fails(params, report):
        raise BloodcellError("data.batch_size=0")

    slots = desk(wanted=100)
    with pytest.raises(BloodcellError, match=rf"the first {HOPELESS} trials all failed.*data.batch_size=0"):
        work(slots, Fake(fails), SPACE, lambda trial: None)
    assert len(slots.finished()) == HOPELESS
    table = pd.read_csv(tmp_path / "trials.csv")
    assert list(table["trial"]) == list(range(HOPELESS))
    assert set(table["error"]) == {"data.batch_size=0"}


def test_a_study_whose_first_trials_failed_goes_on_where_the_cause_is_mended(desk):
    course = iter("mended" * 2)

    def fails(params, report):
        raise BloodcellError("no images")

    def mended(params, report):
        if next(course) == "m":
            raise BloodcellError("by chance")
        return 0.5

    slots = desk(wanted=2 * HOPELESS + 3)
    for count in (HOPELESS, 2 * HOPELESS):  # given again before it was mended, it stops again
        with pytest.raises(BloodcellError, match=f"the first {count} trials all failed"):
            work(slots, Fake(fails), SPACE, lambda trial: None)
        assert len(slots.finished()) == count
    work(slots, Fake(mended), SPACE, lambda trial: None)
    states = [trial.state for trial in slots.finished()]
    assert states == [TrialState.FAIL] * (2 * HOPELESS + 1) + [TrialState.COMPLETE] * 2


def test_few_trials_that_all_failed_are_no_reason_to_stop_the_next_ones(desk):
    def fails(params, report):
        raise BloodcellError("no images")

    with pytest.raises(BloodcellError, match="the first 2 trials all failed"):
        work(desk(wanted=2), Fake(fails), SPACE, lambda trial: None)
    work(desk(wanted=2), Fake(fails), SPACE, lambda trial: None)  # nothing is left to do
    work(desk(wanted=3), Fake(lambda params, report: 0.5), SPACE, lambda trial: None)
    assert len(desk(wanted=3).finished()) == 3


def test_a_trial_that_is_no_good_is_cut_also_after_a_takeover(desk):
    def course(params, report):
        for step in range(4):
            report(0.1 * step, step)
        return 0.3

    pruner = optuna.pruners.ThresholdPruner(upper=0.15)
    slots = desk(wanted=2, pruner=pruner)
    slots.claim().report(0.0, 0)  # killed after its first epoch
    die(slots)
    other = desk(wanted=2, pruner=pruner)
    work(other, Fake(course), SPACE, lambda trial: None)
    assert [trial.state for trial in other.finished()] == [TrialState.PRUNED] * 2
    assert [trial.intermediate_values for trial in other.finished()] == [{0: 0.0, 1: 0.1, 2: 0.2}] * 2


def test_an_interrupted_worker_puts_its_trial_back(desk):
    def interrupted(params, report):
        raise KeyboardInterrupt

    slots = desk(wanted=2)
    with pytest.raises(KeyboardInterrupt):
        work(slots, Fake(interrupted), SPACE, lambda trial: None)
    (trial,) = slots.trials()
    assert trial.state == TrialState.WAITING
    assert set(trial.params) == {"a", "b"}


@pytest.mark.parametrize("shared", [True, False])
def test_an_equal_host_name_and_path_is_not_the_same_machine(desk, later, shared):
    slots = desk(wanted=1, shared=shared)
    trial_id = slots.storage.create_new_trial(slots.study_id)
    lock = str(slots.workers / "7-aaaaaaaa.lock")  # in the other container, under the same path
    slots.storage.set_trial_user_attr(trial_id, "owner", {**slots.owner, "lock": lock, "folder": "another"})
    for beat in range(3):
        slots.storage.set_trial_user_attr(trial_id, "beat", beat)
        assert slots._next() is None, "it lives"
        later(slots_module.DEAD - 1)
    later(2)
    assert slots._next() == (0, trial_id)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("folders", [(".", "."), ("one", "other")])
def test_a_death_on_this_machine_is_known_at_once(desk, shared, folders):
    one, other = (desk(wanted=1, shared=shared, folder=folder) for folder in folders)
    assert one.claim().number == 0
    assert other.claim() is None
    die(one)
    assert other.claim().number == 0


def test_a_folder_that_another_container_sees_under_another_path(desk):
    one, other = desk(wanted=1), desk(wanted=1)
    one.owner |= {"host": "container", "lock": f"/mnt/{Path(one.owner['lock']).name}"}
    assert one.claim().number == 0
    assert other.claim() is None
    die(one)
    assert other.claim().number == 0


def test_a_folder_on_a_network_drive_is_not_asked_for_locks(desk, later):
    one, other = desk(wanted=1, shared=True), desk(wanted=1, shared=True)
    one.owner["host"] = "elsewhere"
    assert one.claim().number == 0
    die(one)  # as it seems from here
    assert other.claim() is None
    later(slots_module.DEAD + 1)
    assert other.claim().number == 0


def test_a_copied_study_folder_is_another_one(desk, tmp_path):
    slots = desk(folder="one")
    shutil.copytree(tmp_path / "one" / "workers", tmp_path / "two" / "workers")
    copy = desk(folder="two")
    assert slots.owner["folder"] == desk(folder="one").owner["folder"] != copy.owner["folder"]


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
def test_trials_of_workers_that_signed_no_folder_are_done_again(desk, later, host):
    slots = desk(wanted=1)
    trial_id = slots.storage.create_new_trial(slots.study_id)
    slots.storage.set_trial_user_attr(trial_id, "owner", {"host": host, "lock": "/x"})
    assert slots._next() == (0, trial_id)
    shared = desk(wanted=1, shared=True)
    assert shared._next() is None
    later(slots_module.DEAD + 1)
    assert shared._next() == (0, trial_id)


@pytest.mark.parametrize("how", ["figure", "report", "error", "interrupt"])
def test_a_worker_goes_on_where_another_has_ended_its_trial(desk, how):
    slots = desk(wanted=2, shared=True)

    def taken_over(params, report):
        if len(slots.finished()) == 0:
            slots.storage.set_trial_state_values(slots._id(0), TrialState.COMPLETE, [0.25])
            if how == "report":
                report(0.75, 0)
            elif how == "error":
                raise RuntimeError
            elif how == "interrupt":
                raise KeyboardInterrupt
        return 0.75

    ended = []
    if how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            work(slots, Fake(taken_over), SPACE, ended.append)
    work(slots, Fake(taken_over), SPACE, ended.append)
    assert [trial.value for trial in slots.finished()] == [0.25, 0.75]
    assert [trial.number for trial in ended] == [1]
    assert slots.pulse is None


def test_a_trial_that_ends_while_it_is_taken_over_is_left_alone(desk, monkeypatch):
    one, other = desk(wanted=2), desk(wanted=2)
    trial = one.claim()
    begin = other._begin

    def late(number, trial_id):
        if number == 0:
            one.finish(trial, TrialState.COMPLETE, 0.5)
        return begin(number, trial_id)

    monkeypatch.setattr(other, "_begin", late)
    die(one)
    assert other.claim().number == 1
    assert [found.value for found in other.finished()] == [0.5]


def test_a_trial_that_another_put_back_ends_with_who_tells(desk):
    one, other = desk(wanted=1), desk(wanted=1)
    trial = one.claim()
    die(one)
    other.release(other.claim())
    one.finish(trial, TrialState.COMPLETE, 0.5)
    assert [found.value for found in other.finished()] == [0.5]


def test_one_worker_draws_the_same_trials_each_time(desk, tmp_path):
    slots = desk(wanted=4)
    work(slots, Fake(lambda params, report: params["a"]), SPACE, lambda trial: None)
    expected = [optuna.samplers.RandomSampler(seed=n) for n in range(4)]
    study = optuna.create_study()
    drawn = []  # as a user would ask for them
    for sampler in expected:
        study.sampler = sampler
        drawn.append(values(study.ask()))
    assert [{key: tidy(value) for key, value in trial.params.items()} for trial in slots.finished()] == drawn


def test_a_changed_study_is_refused(desk):
    slots = desk()
    with pytest.raises(BloodcellError, match=r"begun with another data \(x, now y\); give study=ANOTHER_FOLDER"):
        open_study(slots.storage, "s", "maximize", {"data": "y"})


def test_what_a_dead_worker_left_is_removed(desk, tmp_path):
    one, other = desk(), desk()
    for slots in (one, other):
        slots.work.mkdir()
        (slots.work / "last.ckpt").write_text("large")
    die(one)
    desk()
    assert not one.work.exists()
    assert other.work.exists()
    other.close()
    assert not other.work.exists()


def test_workers_on_one_database_take_turns_by_one_lock(tmp_path):
    assert turn_of(None, tmp_path) == tmp_path / "study.db.lock"
    assert turn_of("sqlite:////a/b.db", tmp_path) == turn_of("sqlite:////a/b.db?timeout=9", tmp_path / "other")
    assert turn_of("postgresql://h/n", tmp_path) == tmp_path / "workers" / ".turn"


def test_no_password_is_written_down():
    given = "tune.storage=postgresql://me:se:cret@host/name a:b@c"
    assert without_password(given) == "tune.storage=postgresql://me:***@host/name a:b@c"


def test_a_storage_that_is_none(tmp_path):
    for url in ("nonsense", "nosuch://x/y"):
        with pytest.raises(BloodcellError, match=rf"tune\.storage={url}: .*; give a URL such as"):
            open_storage(url, tmp_path)


WORKER = """
import sys, time
from pathlib import Path
import optuna
from bloodcell.tuning.trial_queue import Slots
from bloodcell.tuning.search_space import Dimension, tidy
from bloodcell.tuning.storage import open_storage, open_study
from bloodcell.tuning.worker import work
class Fake:
    metric = "accuracy"
    def value(self, params, report):
        time.sleep(0.02)
        return params["a"]
optuna.logging.set_verbosity(optuna.logging.WARNING)
folder = Path(sys.argv[1])
storage = open_storage(None, folder)
study = open_study(storage, "s", "maximize", {"data": "x"})
slots = Slots(study, storage, 40, folder, folder / "turn", False, lambda n: optuna.samplers.RandomSampler(seed=n))
work(slots, Fake(), [Dimension("a", 0.0, 1.0)], lambda trial: None)
"""


def test_two_workers_killed_three_times_leave_exactly_what_was_asked_for(tmp_path):
    (tmp_path / "workers").mkdir()
    start = [sys.executable, "-c", WORKER, str(tmp_path)]
    for kill in range(4):
        both = [subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
        if kill == 3:
            assert [worker.wait(120) for worker in both] == [0, 0]
            break
        wait_for(tmp_path, 10 * (kill + 1))
        for worker in both:
            assert worker.poll() is None
            worker.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
            worker.wait()
    storage = open_storage(None, tmp_path)
    trials = open_study(storage, "s", "maximize", {"data": "x"}).trials
    storage._backend.engine.dispose()
    assert [trial.number for trial in trials] == list(range(40))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert all(trial.value == tidy(trial.params["a"]) for trial in trials)
    assert len({trial.params["a"] for trial in trials}) == 40
    assert any(trial.user_attrs["starts"] > 1 for trial in trials), "no kill hit a trial"


def wait_for(folder, count):
    """Wait until so many trials have ended."""
    deadline, storage, found = time.monotonic() + 120, None, 0
    while found < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        if (folder / "study.db").is_file():
            try:
                storage = storage or open_storage(None, folder)
                trials = storage.get_all_trials(storage.get_study_id_from_name("s"))
                found = sum(trial.state.is_finished() for trial in trials)
            except (KeyError, BloodcellError):
                continue  # it is being made
    storage._backend.engine.dispose()
