"""Who does which trial: so many as were asked for, each once, whoever dies on the way.

The study's trials are those with the numbers 0 to N - 1; the storage gives each number once. A worker claims a trial
that waits, makes one where there are fewer than N, or takes over one whose worker is dead: the same trial with the same
values from its beginning, so nothing is lost and nothing is there twice. A trial ends once: whoever tells second is not
heard.

A worker holds a lock file while it lives, which the system lets go of however it ends: whoever sees the file knows its
death at once. To others a counter in the storage tells, which a living worker raises. Equal host names and paths do not
mean that it is the same file, on machines or in containers: its folder has an id, which the worker signs.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bloodcell.runtime.io import remove_temporaries, write_atomically

#: Seconds between two signs of life, and without one after which a worker whose lock is not to be seen is dead.
BEAT, DEAD = 20.0, 120.0
#: A trial that was begun so many times without an end is what kills its workers.
MOST_STARTS = 5


class Slots:
    """Gives this worker its trials.

    Args:
        study: Optuna's.
        storage: The study's.
        wanted: The number of trials, N.
        folder: The study's folder on this machine.
        turn: The lock file under which workers of this machine claim trials.
        shared: Workers on other machines may be there.
        sampler: Builds the sampler of a trial from its number: workers that start alike draw differently, and a study
            with one worker repeats.
    """

    def __init__(
        self,
        study: Any,
        storage: Any,
        wanted: int,
        folder: Path,
        turn: Path,
        shared: bool,
        sampler: Callable[[int], Any],
    ) -> None:
        self.study, self.storage, self.wanted, self.shared, self.sampler = study, storage, wanted, shared, sampler
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.folder = folder
        self.workers = folder / "workers"
        self.workers.mkdir(parents=True, exist_ok=True)
        self.turn = FileLock(turn)
        self.work = self.workers / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.life = FileLock(self.work.with_suffix(".lock"))
        self.life.acquire()
        with self.turn:
            clear_dead(self.workers)
            name_folder(self.workers)
        lock = str(Path(self.life.lock_file).absolute())
        self.owner = {"host": socket.gethostname(), "lock": lock, "folder": id_of(self.workers)}
        self.seen: dict[int, tuple[Any, float]] = {}
        self.pulse: Pulse | None = None

    def close(self) -> None:
        """Remove this worker's folder, and let go of the lock that says that it lives."""
        self._stop_pulse()
        shutil.rmtree(self.work, ignore_errors=True)
        self.life.release()
        Path(self.life.lock_file).unlink(missing_ok=True)

    def trials(self) -> list[Any]:
        """Return the study's trials in their order, at most N; they are not to be changed."""
        found = self.storage.get_all_trials(self.study_id, deepcopy=False)
        return sorted((trial for trial in found if trial.number < self.wanted), key=lambda trial: trial.number)

    def finished(self) -> list[Any]:
        """Return those that ended, in whatever way."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def claim(self) -> Any:
        """Return the next trial for this worker; None where all are done or in other living hands."""
        from optuna.exceptions import UpdateFinishedTrialError

        with self.turn:  # a database in a file does not keep two workers from claiming the same trial
            while (found := self._next()) is not None:
                with suppress(UpdateFinishedTrialError):  # its worker lives after all, and has just told
                    if (trial := self._begin(*found)) is not None:
                        return trial
        return None

    def _next(self) -> tuple[int, int] | None:
        """Return number and id of a trial that is RUNNING in this worker's name alone."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        trials = self.trials()
        for trial in trials:
            if trial.state == TrialState.RUNNING and self._is_orphan(trial):
                return trial.number, self._id(trial.number)
        for trial in (trial for trial in trials if trial.state == TrialState.WAITING):
            try:
                if self.storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING):
                    return trial.number, self._id(trial.number)
            except UpdateFinishedTrialError:
                continue
        if len(trials) >= self.wanted:
            return None
        trial_id = self.storage.create_new_trial(self.study_id)
        number = self.storage.get_trial_number_from_id(trial_id)
        if number < self.wanted:
            return number, trial_id
        self.storage.set_trial_state_values(trial_id, TrialState.WAITING)  # another machine made the last one
        return None

    def _id(self, number: int) -> int:
        return int(self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number))

    def _begin(self, number: int, trial_id: int) -> Any:
        """Make a RUNNING trial this worker's; None where too many workers died of it, so that it has failed."""
        from optuna.trial import Trial, TrialState

        self.storage.set_trial_user_attr(trial_id, "owner", self.owner)
        starts = self.storage.get_trial(trial_id).user_attrs.get("starts", 0) + 1
        self.storage.set_trial_user_attr(trial_id, "starts", starts)
        if starts > MOST_STARTS:
            reason = f"its process ended {MOST_STARTS} times before the trial did; is memory short?"
            self.storage.set_trial_user_attr(trial_id, "error", reason)
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            return None
        self.pulse = Pulse(self.storage, trial_id)
        self.study.sampler = self.sampler(number)
        return Trial(self.study, trial_id)

    def _is_orphan(self, trial: Any) -> bool:
        """Say whether the worker of a RUNNING trial is dead: by its lock where that is to be seen, or by its beat."""
        owner = trial.user_attrs.get("owner")
        if owner is None and not self.shared:
            return True  # its worker died before it could sign
        if owner is not None and (lock := self._lock_of(owner)) is not None:
            return not _is_held(lock)
        sign = (owner, trial.user_attrs.get("beat"))
        before, since = self.seen.get(trial.number, (None, 0.0))
        if before != sign:
            self.seen[trial.number] = (sign, time.monotonic())
            return False
        return time.monotonic() - since > DEAD

    def _lock_of(self, owner: dict[str, str]) -> Path | None:
        """Return the lock file of a worker, which is gone where the worker is; None where its folder is not here.

        The folder may be another study folder of this machine, or this one under another path, as in a container. One
        with another host name may be a network drive, whose locks are not to be relied on. Workers of earlier releases
        signed no folder: where the database is a file, they gave no beat, and the path has to tell.
        """
        lock = Path(owner["lock"])
        if "folder" not in owner:
            return None if self.shared else lock
        if self.shared and owner["host"] != self.owner["host"]:
            return None
        here = (folder for folder in (lock.parent, self.workers) if id_of(folder) == owner["folder"])
        return next((folder / lock.name for folder in here), None)

    def finish(self, trial: Any, state: Any, value: float | None = None) -> None:
        """Tell how a trial ended; where somebody else has told before, nothing changes."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self._stop_pulse()
        with suppress(UpdateFinishedTrialError):
            # another may have taken it over and put it back; Optuna hears nothing of a trial that waits
            self.storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING)
            self.study.tell(trial, value, state, skip_if_finished=True)

    def release(self, trial: Any) -> None:
        """Put a trial back that this worker will not finish: it waits with its values for another, or has ended."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self._stop_pulse()
        trial_id = self._id(trial.number)
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial_id, "starts", 0)  # nothing is wrong with it
            self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _stop_pulse(self) -> None:
        if self.pulse is not None:
            self.pulse.stop()
            self.pulse = None


def clear_dead(workers: Path) -> None:
    """Remove what workers left that did not end by themselves: lock files, and folders with checkpoints."""
    for lock in workers.glob("*.lock"):
        if not _is_held(lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def name_folder(workers: Path) -> None:
    """Give a folder of workers an id where it has none; while no other process does."""
    remove_temporaries(workers, "id")
    if not (workers / "id").is_file():
        write_atomically(workers / "id", lambda temporary: temporary.write_text(uuid.uuid4().hex, encoding="utf-8"))


def id_of(workers: Path) -> str | None:
    """Return what tells a folder of workers from all others, its copies included; None: no such folder is here."""
    file = workers / "id"
    try:
        return f"{file.read_text(encoding='utf-8')}-{file.stat().st_ino}"
    except OSError:
        return None


def _is_held(lock: Path) -> bool:
    """Say whether some process holds a lock file."""
    if not lock.is_file():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


class Pulse:
    """Raises a counter of a trial in the storage while its worker lives, for workers that do not see its lock."""

    def __init__(self, storage: Any, trial_id: int) -> None:
        self.storage, self.trial_id, self.over = storage, trial_id, threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def _beat(self) -> None:
        from optuna.exceptions import OptunaError

        count = 0
        while not self.over.wait(BEAT):
            count += 1
            try:
                self.storage.set_trial_user_attr(self.trial_id, "beat", count)
            except OptunaError:  # finished by another, or the storage is away: the next beat will tell
                continue

    def stop(self) -> None:
        """End the counting."""
        self.over.set()
        self.thread.join()
