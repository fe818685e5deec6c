"""What a study says on the terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.table import Table

#: Trials in the table at the end.
SHOWN = 10


class Clock:
    """Guesses the remaining time by the trials that ended since this worker began.

    Args:
        done: How many had ended before.
    """

    def __init__(self, done: int) -> None:
        self.done, self.started = done, time.perf_counter()

    def left(self, done: int, wanted: int) -> str:
        """Say how long the rest takes, of `wanted` trials of which `done` have ended."""
        each = (time.perf_counter() - self.started) / max(1, done - self.done)
        return duration(each * (wanted - done))


def duration(seconds: float) -> str:
    """Say a time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shown(value: float | None, metric: str) -> str:
    """Write a figure: shares in percent, a loss as it is."""
    if value is None:
        return ""
    return f"{value:.4f}" if metric == "loss" else f"{100 * value:.1f} %"


def best_of(trials: list[Any], metric: str) -> Any:
    """Return the best trial that came to its end; None where none did."""
    from optuna.trial import TrialState

    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = 1 if metric == "loss" else -1
    return min(complete, key=lambda trial: (sign * trial.value, trial.number), default=None)


def outcome(trial: Any, metric: str) -> str:
    """Say how a trial ended: its figure, the step at which it was cut, or why it failed."""
    from optuna.trial import TrialState

    if trial.state == TrialState.COMPLETE:
        return shown(trial.value, metric)
    if trial.state == TrialState.PRUNED:
        return f"cut at {shown(trial.value, metric)}"
    return f"failed: {trial.user_attrs.get('error', 'no reason is known')}"


def choices(params: dict[str, Any]) -> str:
    """Write a trial's values in a line."""
    names = short_names(list(params))
    return " ".join(f"{names[key]}={value_text(value)}" for key, value in params.items())


def short_names(keys: list[str]) -> dict[str, str]:
    """Return each key's last part, or the whole key where another one ends alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def value_text(value: Any) -> str:
    """Write a value as the command line takes it, numbers to three digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def trial_line(trial: Any, finished: list[Any], wanted: int, metric: str, clock: Clock) -> str:
    """Say in a line how a trial ended, which is the best so far, and how long the rest takes."""
    best = best_of(finished, metric)
    beside = f"best {shown(best.value, metric)} (trial {best.number})" if best else "no best yet"
    digits = len(str(wanted))
    left = f"{clock.left(len(finished), wanted)} left" if len(finished) < wanted else "the last one"
    head = f"{len(finished):>{digits}}/{wanted}   trial {trial.number:>{digits}}: {outcome(trial, metric):<12}"
    return f"{head}   {beside}   {left}   {choices(trial.params)}"


def top_table(trials: list[Any], metric: str) -> Table:
    """Return the best trials as a table: the values that differ, and the figure."""
    from optuna.trial import TrialState
    from rich.markup import escape

    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: trial.value, reverse=metric != "loss")[:SHOWN]
    table = Table(title=f"the best {len(best)} of {len(trials)} trials")
    keys = list(dict.fromkeys(key for trial in best for key in trial.params))
    table.add_column("trial", justify="right")
    table.add_column(metric.replace("_", " "), justify="right")
    for name in short_names(keys).values():
        table.add_column(escape(name.replace("_", " ")), justify="right")
    for trial in best:
        row = [escape(value_text(trial.params.get(key))) for key in keys]
        table.add_row(str(trial.number), shown(trial.value, metric), *row)
    return table


def counts(trials: list[Any]) -> str:
    """Say how many trials ended in which way."""
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: "to the end", TrialState.PRUNED: "cut", TrialState.FAIL: "failed"}
    parts = [(sum(trial.state == state for trial in trials), name) for state, name in names.items()]
    return f"{len(trials)} trials: {', '.join(f'{count} {name}' for count, name in parts if count)}"
