"""Checks of configuration values; each raises a BloodcellError with one clear line."""

from __future__ import annotations

import re
from typing import Any

from bloodcell.runtime.errors import BloodcellError

SEEDS = 2**32  # numpy's
MOST_WORKERS = 256  # more could only bring the machine down
TTA = ("none", "flips", "d4")
CELLS = ("auto", "all", "one", "whole")
FIGURES = ("png", "pdf", "svg")


def require(right: bool, key: str, value: Any, wanted: str) -> None:
    """Refuse a value of a key, e.g. `data.fold`, unless it is right; `wanted` says what to give."""
    if not right:
        raise BloodcellError(f"{key}={value}; {wanted}")


def require_choice(key: str, value: Any, *choices: Any) -> None:
    """Refuse a value that is not among the choices."""
    words = [{True: "true", False: "false", None: "null"}.get(choice, choice) for choice in choices]
    require(value in choices, key, value, f"choose {', '.join(words[:-1])} or {words[-1]}")


def require_count(key: str, value: Any, least: int = 1) -> None:
    """Refuse what is neither a whole number, nor auto or null."""
    right = value in (None, "auto") or (isinstance(value, int) and not isinstance(value, bool) and value >= least)
    require(right, key, value, "give a whole number of 1 or more, auto or null")


def require_one_group(key: str, expression: str) -> None:
    """Refuse what is no regular expression with one group."""
    try:
        groups = re.compile(expression).groups
    except re.error as error:
        raise BloodcellError(f"{key}={expression} is no regular expression: {error}") from error
    require(groups == 1, key, expression, rf"give one group, in brackets: {key}='(slide\d+)_'")


def require_seed(key: str, value: int) -> None:
    """Refuse a number that numpy does not take as a seed."""
    require(0 <= value < SEEDS, key, value, f"give a whole number from 0 to {SEEDS - 1}")


def require_workers(key: str, value: int | None) -> None:
    """Refuse a number of threads or processes that is negative or too large."""
    require(value is None or 0 <= value <= MOST_WORKERS, key, value, f"give 0 to {MOST_WORKERS}, or null")


def require_threshold(abstain_below: float | None, error_rate: float | None) -> None:
    """Refuse two thresholds of abstention, or one outside 0 to 1."""
    if abstain_below is not None and error_rate is not None:
        raise BloodcellError("abstain_below and error_rate both set the threshold; give one")
    for name, value in (("abstain_below", abstain_below), ("error_rate", error_rate)):
        require(value is None or 0 <= value <= 1, name, value, "give a number from 0 to 1")


def figure_formats(value: Any, key: str = "figures") -> list[str]:
    """Return the formats of a run's figures: true is png, false none.

    Raises:
        BloodcellError: One is not known.
    """
    formats = ["png"] if value is True else [] if not value else [value] if isinstance(value, str) else list(value)
    for one in formats:
        require(one in FIGURES, key, value, f"give true, false, or a list of {', '.join(FIGURES)}: {key}=[png,pdf]")
    return formats
