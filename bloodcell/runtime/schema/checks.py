"""Checks of a configuration's values, each refusal in one clear line."""

from __future__ import annotations

from typing import Any

from bloodcell.runtime.errors import BloodcellError

#: Seeds that numpy takes.
SEEDS = 2**32
#: Threads or processes that may decode.
MOST_WORKERS = 256
TTA = ("none", "flips", "d4")


def require(right: bool, key: str, value: Any, wanted: str) -> None:
    """Refuse a value of a configuration key.

    Args:
        right: Whether it may stay.
        key: As on the command line, e.g. `data.fold`.
        value: What was given.
        wanted: What to do, e.g. "give a whole number of 1 or more".

    Raises:
        BloodcellError: It is not right.
    """
    if not right:
        raise BloodcellError(f"{key}={value}; {wanted}")


def require_choice(key: str, value: Any, *choices: Any) -> None:
    """Refuse a value that is none of some choices; see `require`."""
    words = [{True: "true", False: "false", None: "null"}.get(choice, choice) for choice in choices]
    require(value in choices, key, value, f"choose {', '.join(words[:-1])} or {words[-1]}")


def require_seed(key: str, value: int) -> None:
    """Refuse a number that is no seed; see `require`."""
    require(0 <= value < SEEDS, key, value, f"give a whole number from 0 to {SEEDS - 1}")


def require_workers(key: str, value: int | None) -> None:
    """Refuse a number of threads that could only bring the machine down; see `require`."""
    require(value is None or 0 <= value <= MOST_WORKERS, key, value, f"give 0 to {MOST_WORKERS}, or null")


def require_threshold(abstain_below: float | None, error_rate: float | None) -> None:
    """Refuse thresholds of abstention that are none.

    Raises:
        BloodcellError: Both are given, or one that is no number from 0 to 1.
    """
    if abstain_below is not None and error_rate is not None:
        raise BloodcellError("abstain_below and error_rate both set the threshold; give one")
    for name, value in (("abstain_below", abstain_below), ("error_rate", error_rate)):
        require(value is None or 0 <= value <= 1, name, value, "give a number from 0 to 1")
