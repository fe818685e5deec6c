"""One process at a study: it claims a trial, trains it, tells how it ended, and says so in a line."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.user_errors import user_message
from bloodcell.tuning.search_space import Dimension
from bloodcell.tuning.study_results import table_of
from bloodcell.tuning.trial_lines import Clock, trial_line
from bloodcell.tuning.trial_queue import Slots

if TYPE_CHECKING:
    from bloodcell.tuning.objective import Objective

#: Where the first so many trials all fail, so will the rest.
HOPELESS = 5
#: Seconds between two looks at the trials that others are at.
POLL = 0.5


def work(slots: Slots, objective: Objective, space: list[Dimension], ended: Callable[[Any], None]) -> None:
    """Do trials until all are done; where the last ones are in other hands, wait for these, or take them over.

    Args:
        slots: Gives the trials.
        objective: Trains them.
        space: What varies.
        ended: Called with each trial of this worker that ended, as it is in the storage.

    Raises:
        BloodcellError: The first trials of the study all failed.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    before = {trial.number for trial in slots.finished()}
    clock = Clock(len(before))
    while True:
        refuse_hopeless(slots, before)
        trial = slots.claim()
        if trial is None:
            if len(slots.finished()) == slots.wanted:
                return
            time.sleep(POLL)
            continue
        try:
            slots.finish(trial, *attempt(trial, objective, space))
        except UpdateFinishedTrialError:  # it was taken for a dead worker's, and another has told how it ended
            slots.release(trial)
            continue
        except BaseException:  # Ctrl+C, or a storage that is away
            slots.release(trial)
            raise
        finished = slots.finished()
        frozen = next(one for one in finished if one.number == trial.number)
        say(trial_line(frozen, finished, slots.wanted, objective.metric, clock))
        ended(frozen)


def attempt(trial: Any, objective: Objective, space: list[Dimension]) -> tuple[Any, float | None]:
    """Train a trial; return its state, and its figure where it came to its end. A failure is kept with its reason.

    Raises:
        OptunaError: The storage is away, or another worker took the trial over and ended it.
    """
    from optuna.exceptions import OptunaError, TrialPruned
    from optuna.trial import TrialState

    started, state, value = time.perf_counter(), TrialState.COMPLETE, None
    try:
        params = {one.key: one.suggest(trial) for one in space}
        value = objective.value(params, lambda figure, step: _report(trial, figure, step))
        if not math.isfinite(value):
            raise BloodcellError(f"{objective.metric} is {value}: the training diverged")
    except TrialPruned:
        state, value = TrialState.PRUNED, None
    except OptunaError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the other trials go on
        message = user_message(error) or f"{type(error).__name__}: {error}"
        trial.set_user_attr("error", " ".join(message.split())[:300])
        state, value = TrialState.FAIL, None
    trial.set_user_attr("seconds", round(time.perf_counter() - started, 2))
    return state, value


def _report(trial: Any, figure: float, step: int) -> None:
    """Keep a figure of a trial, and cut it where it is no good; one taken over has some of them already.

    Raises:
        TrialPruned: Others were better at this step.
    """
    from optuna.exceptions import TrialPruned

    if step not in trial.study.trials[trial.number].intermediate_values:
        trial.report(figure, step)
    if trial.should_prune():
        raise TrialPruned


def refuse_hopeless(slots: Slots, before: set[int]) -> None:
    """Raise where the first trials of the study all failed, and leave the table of their reasons.

    Args:
        slots: Knows the trials.
        before: The numbers of those that had ended before this worker began. They alone are no reason to stop: the
            cause may have been mended since.

    Raises:
        BloodcellError: See above.
    """
    from optuna.trial import TrialState

    first = slots.finished()
    since = [trial for trial in first if trial.number not in before]
    if len(since) < min(HOPELESS, slots.wanted) or any(trial.state != TrialState.FAIL for trial in first):
        return
    write_csv(table_of(first), slots.folder / "trials.csv")
    reason = since[-1].user_attrs.get("error", "no reason is known")
    raise BloodcellError(f"the first {len(first)} trials all failed, the last one so: {reason}")
