"""The processes that work on a study: each runs trials until enough are finished and none is left behind."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloodcell.runtime.console import complain, counted, progress, say
from bloodcell.tuning.storage import GRACE, finished_trials

#: Seconds between two looks at the trials of other workers.
POLL = 1.0
#: In the environment of a further process that the first one started.
MARK = "BLOODCELL_TUNE_WORKER"
#: Seconds that such a process has to end after the first one.
SOON = 10


def work(study: Any, storage: Any, objective: Callable[[Any], float], wanted: int, log: Callable[[], None]) -> None:
    """Run trials until enough are finished; then wait for those of other workers, or retry them.

    Optuna's `MaxTrialsCallback` would count a trial as failed whose worker died, and leave its retry undone.

    Args:
        study: Optuna's.
        storage: The study's.
        objective: Trains a trial.
        wanted: How many trials are to be finished, by whatever worker.
        log: Called when trials may have ended; what it raises ends the work.
    """
    from optuna.storages import fail_stale_trials
    from optuna.trial import TrialState

    study_id, seen, waits = storage.get_study_id_from_name(study.study_name), set[int](), False
    while True:
        fail_stale_trials(study)
        log()
        trials = study.get_trials(deepcopy=False)
        running = {trial.number for trial in trials if trial.state == TrialState.RUNNING}
        for number in running - seen:  # one whose worker died before its first heartbeat would never be stale
            storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(study_id, number))
        seen |= running
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if waiting or len(finished_trials(study)) + len(running) < wanted:
            with progress(f"trial {len(finished_trials(study)) + 1} of {wanted}"):
                _run_trial(study, objective)
        elif running:
            if not waits:
                others = counted(len(running), "trial")
                say(f"waiting for {others} of other workers; one whose worker is dead is retried after {GRACE} s")
            waits = True
            time.sleep(POLL)
        else:
            return


def _run_trial(study: Any, objective: Callable[[Any], float]) -> None:
    """Run a trial; an error of its own is kept with it."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        study.optimize(objective, n_trials=1, catch=(Exception,))
    except UpdateFinishedTrialError:
        return  # this process seemed dead, as on a machine that slept: another one retries the trial
    except ValueError as error:
        if "Cannot tell a" not in str(error):  # the same, as Optuna says it at the end of a trial
            raise


@contextmanager
def further_workers(count: int, folder: Path, threads: int) -> Iterator[None]:
    """Start the same command again in further processes, which work on the same study and end with this one.

    What they print goes into the folder; each has as many processor threads as `threads`.
    """
    quoted = str(folder.absolute()).replace("\\", "/").replace("'", "\\'")
    command = [sys.executable, "-m", "bloodcell", "tune", *sys.argv[1:], f"study='{quoted}'", "tune.workers=1"]
    environment = {**os.environ, MARK: "1", "OMP_NUM_THREADS": str(threads)}
    started = []
    for number in range(1, count + 1):
        log = folder / f"worker-{number}.log"
        log.unlink(missing_ok=True)  # not what a link there points to
        with log.open("x") as output:
            # a process group of their own: the terminal's Ctrl+C comes to the first process alone, which ends them
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, process_group=0
            )
            started.append(process)
    try:
        yield
        for number, process in enumerate(started, 1):
            if process.wait():
                complain(f"warning: worker {number} failed; see {folder / f'worker-{number}.log'}")
    finally:
        for process in started:
            process.stdin.close()  # type: ignore[union-attr]  # a pipe, see above
        for process in started:
            process.wait()


def is_further() -> bool:
    """Return whether another process started this one as a further worker."""
    return MARK in os.environ


def end_with_first() -> None:
    """In a further worker: interrupt the work when the first process closes this one's input, or dies."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        for _ in range(SOON // 2):  # Python loses an interruption that comes while an object ends
            _thread.interrupt_main()
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
