"""What is won by averaging: a system against each of others on the same images, written and said."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.evaluation.paired import Difference, differences
from bloodcell.files import write_json

#: Figure -> in which words it is said.
WORDS = {
    "accuracy": "accuracy",
    "accuracy_by_source": "by source",
    "macro_recall_by_source": "macro recall by source",
}


def write_gain(
    predictions: pd.DataFrame, others: dict[str, pd.DataFrame], folder: Path, trained_on: frozenset[str]
) -> list[str]:
    """Write gain.json, by other system, split and figure, and return a line for each system and split.

    Args:
        predictions: The predictions table of the system that was evaluated.
        others: Name -> predictions table of another one, of the same images; none: nothing is written.
        folder: An existing folder.
        trained_on: Sources of the training images.
    """
    gains = {name: differences(predictions, table, trained_on) for name, table in others.items()}
    if gains:
        write_json({name: _plain(splits) for name, splits in gains.items()}, folder / "gain.json")
    return [line(name, split, figures) for name, splits in gains.items() for split, figures in splits.items()]


def _plain(splits: dict[str, dict[str, Difference]]) -> dict[str, Any]:
    return {split: {name: asdict(found) for name, found in figures.items()} for split, figures in splits.items()}


def line(name: str, split: str, figures: dict[str, Difference]) -> str:
    """Say how much better the evaluated system is than another on one split, in percentage points."""
    said = []
    for figure, found in figures.items():
        text = f"{WORDS[figure]} {100 * found.value:+.1f}"
        said.append(text if found.low is None or found.high is None else text + _limits(found.low, found.high))
    known = figures["accuracy"].sources
    ground = f"{known:,} sources" if known else "sources unknown, so no honest interval"
    return f"{split} gain over {name}, in points: {', '.join(said)}; {ground}"


def _limits(low: float, high: float) -> str:
    return f" ({100 * low:+.1f} to {100 * high:+.1f})"
