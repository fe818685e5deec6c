"""What a study prints of its trials."""

from __future__ import annotations

from typing import Any

from bloodcell.tuning.storage import failure


def shown(value: float, metric: str) -> str:
    """Return a metric as text: shares in percent, a loss as it is."""
    return f"{value:.4f}" if metric == "loss" else f"{100 * value:.1f} %"


def best_of(trials: list[Any], metric: str) -> Any:
    """Return the best complete trial; None if there is none."""
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    return min(complete, key=lambda trial: trial.value if metric == "loss" else -trial.value, default=None)


def value_text(value: Any) -> str:
    """Return a value as the command line takes it, numbers to three digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def short_names(keys: list[str]) -> dict[str, str]:
    """Return each key's last part, or the whole key if another one ends alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def trial_line(trial: Any, best: Any, metric: str) -> str:
    """Return how a trial ended, which one is best so far, and the trial's values."""
    outcome = f"failed: {failure(trial)}" if trial.state.name == "FAIL" else shown(trial.value, metric)
    pruned = "pruned at " if trial.state.name == "PRUNED" else ""
    beside = f"best {shown(best.value, metric)} (trial {best.number})" if best else "none complete yet"
    names = short_names(list(trial.params))
    values = " ".join(f"{names[key]}={value_text(value)}" for key, value in trial.params.items())
    return f"trial {trial.number}: {pruned}{outcome}   {beside}   {values}"


def counts(trials: list[Any]) -> str:
    """Return how many trials ended in which way."""
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    parts = [(sum(trial.state.name == state for trial in trials), name) for state, name in names.items()]
    return f"{len(trials)} trials: {', '.join(f'{count} {name}' for count, name in parts if count)}"
