"""The search space: which keys of the configuration vary, and between what."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

from bloodcell.runtime.errors import BloodcellError

#: What a range may consist of.
FIELDS = ("low", "high", "log", "step", "choices")


def read_space(sweep: Any) -> dict[str, Any]:
    """Return the search space of a sweep file: key -> Optuna's distribution.

    Args:
        sweep: Key -> range: {low, high}, optionally with log or step, or {choices}. Keys may be nested or dotted.

    Raises:
        BloodcellError: It is empty, or something is not a range.
    """
    if not isinstance(sweep, dict) or not (ranges := list(_flat(sweep, ""))):
        raise BloodcellError("sweep is empty; choose sweep=head, sweep=finetune, or a file of your own (--config-dir)")
    keys = [key for key, _ in ranges]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise BloodcellError(f"sweep: {twice[0]} is there twice")
    return {key: _distribution(key, given) for key, given in ranges}


def _flat(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dotted key and its range."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if not isinstance(value, dict):
            raise BloodcellError(f"sweep: {key}={value}; give a range, {{low: A, high: B}}, or {{choices: [A, B]}}")
        if set(value) & set(FIELDS):
            yield key, value
        else:
            yield from _flat(value, f"{key}.")


def _distribution(key: str, given: dict[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if unknown := sorted(set(given) - set(FIELDS)):
        raise BloodcellError(f"sweep: {key} has '{unknown[0]}'; a range has {', '.join(FIELDS)}")
    if "choices" in given:
        choices: Any = given["choices"]
        plain = isinstance(choices, list) and all(isinstance(one, str | int | float | None) for one in choices)
        if not plain or len(given) > 1 or len(set(choices)) < max(2, len(choices)):
            raise BloodcellError(
                f"sweep: {key}.choices={choices}; give a list of two different values or more, and no range"
            )
        return CategoricalDistribution(choices)
    rest = {name: value for name, value in given.items() if value is not None}
    numbers = [rest.get("low"), rest.get("high"), rest.get("step", 1)]
    if not all(_is_number(value) for value in numbers) or not isinstance(rest.get("log", False), bool):
        raise BloodcellError(
            f"sweep: {key}; give choices, or numbers for low, high and step, and true or false for log"
        )
    if rest["low"] == rest["high"]:
        raise BloodcellError(f"sweep: {key} from {rest['low']} to {rest['high']}; low must be below high")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a step that does not divide the range
            return (IntDistribution if all(isinstance(value, int) for value in numbers) else FloatDistribution)(**rest)
    except (ValueError, UserWarning) as error:
        raise BloodcellError(f"sweep: {key}: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def suggest(trial: Any, space: dict[str, Any]) -> dict[str, Any]:
    """Return the values that an Optuna trial has or draws: key -> value."""
    values = {}
    for key, one in space.items():
        if hasattr(one, "choices"):
            values[key] = trial.suggest_categorical(key, one.choices)
        else:
            suggest_number = trial.suggest_int if isinstance(one.low, int) else trial.suggest_float
            values[key] = tidy(suggest_number(key, one.low, one.high, step=one.step, log=one.log))
    return values


def tidy(value: Any) -> Any:
    """Return a value, a float to twelve digits: steps of 0.1 lead to 0.3 and not to 0.30000000000000004."""
    return float(f"{value:.12g}") if isinstance(value, float) else value
