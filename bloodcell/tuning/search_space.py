"""The search space: which keys of the configuration vary, and between what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError

#: What a range may say of itself.
WORDS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Dimension:
    """One key of the configuration and its values.

    Attributes:
        key: As on the command line, e.g. `optimizer.lr`.
        low: The least value; whole numbers where low, high and step are.
        high: The highest.
        log: Spread evenly over the factors between low and high, not over the differences.
        step: Between neighbouring values; None: any value, or each whole number.
        choices: These values in place of a range.
    """

    key: str
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 0))

    @property
    def ends(self) -> tuple[Any, ...]:
        """All choices, or the two ends of the range."""
        return self.choices or (self.low, self.high)

    def suggest(self, trial: Any) -> Any:
        """Return the value that an Optuna trial has or draws."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.whole:
            return trial.suggest_int(self.key, self.low, self.high, step=self.step or 1, log=self.log)
        return tidy(trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log))

    def described(self) -> dict[str, Any]:
        """Return the range as plain values, so that two of the same text are the same."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


def tidy(value: Any) -> Any:
    """Return a value, a float to twelve digits: steps of 0.1 lead to 0.3 and not to 0.30000000000000004."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def read_space(sweep: Any) -> list[Dimension]:
    """Return the dimensions of a sweep file.

    Args:
        sweep: Key -> range, where a range is {low, high}, if you like with log or step, or {choices}. Keys may be
            nested or dotted.

    Raises:
        BloodcellError: It is empty, or a range is none.
    """
    if not isinstance(sweep, dict) or not (space := [_dimension(*item) for item in _flat(sweep, "")]):
        raise BloodcellError("sweep is empty; choose sweep=head, sweep=finetune, or a file of your own (--config-dir)")
    keys = [one.key for one in space]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise BloodcellError(f"sweep: {twice[0]} is there twice")
    return space


def _flat(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dotted key and its range."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if not isinstance(value, dict):
            raise BloodcellError(f"sweep: {key}={value}; give a range, {{low: A, high: B}}, or {{choices: [A, B]}}")
        if set(value) & set(WORDS):
            yield key, value
        elif value:
            yield from _flat(value, f"{key}.")


def _dimension(key: str, given: dict[str, Any]) -> Dimension:
    if unknown := sorted(set(given) - set(WORDS)):
        raise BloodcellError(f"sweep: {key} has '{unknown[0]}'; a range has {', '.join(WORDS)}")
    if "choices" in given:
        return Dimension(key, choices=_choices(key, given))
    if {"low", "high"} - set(given):
        raise BloodcellError(f"sweep: {key}; give low and high, or choices")
    low, high, log, step = given["low"], given["high"], given.get("log"), given.get("step")
    if not all(_is_number(value) for value in (low, high, *([] if step is None else [step]))):
        raise BloodcellError(f"sweep: {key}; low, high and step are numbers")
    if log not in (None, True, False):
        raise BloodcellError(f"sweep: {key}.log={log}; choose true or false")
    if (problem := _problem(low, high, bool(log), step)) is not None:
        raise BloodcellError(f"sweep: {key} from {low} to {high}; {problem}")
    return Dimension(key, low, high, bool(log), step)


def _choices(key: str, given: dict[str, Any]) -> tuple[Any, ...]:
    values = given["choices"]
    plain = isinstance(values, list) and all(value is None or isinstance(value, str | int | float) for value in values)
    if not plain or len(given) > 1 or len(values) < 2 or len({(type(v), v) for v in values}) < len(values):
        raise BloodcellError(
            f"sweep: {key}.choices={values}; give a list of two different values or more, and no range"
        )
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _problem(low: Any, high: Any, log: bool, step: Any) -> str | None:
    """Say what is odd with a range; None where nothing is."""
    if low >= high:
        return "low must be below high"
    if log and low <= 0:
        return "with log, low must be above 0"
    if step is None:
        return None
    if log:
        return "log and step exclude each other"
    if step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-9:
        return f"step={step} must divide it into equal parts"
    return None
