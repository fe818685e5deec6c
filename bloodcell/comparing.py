"""Comparing: several checkpoints, or files of predictions, are judged beside each other in place of averaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.config import listed
from bloodcell.console import say
from bloodcell.errors import BloodcellError
from bloodcell.evaluation.comparison import write_comparison
from bloodcell.evaluation.outputs import figures_of
from bloodcell.files import write_csv, write_json


def compares(config: dict[str, Any]) -> bool:
    """Say whether what is given is to be compared.

    Raises:
        BloodcellError: `compare` is neither true nor false, one system is to be compared, or several files of
            predictions are not.
    """
    if config["compare"] not in (True, False):
        raise BloodcellError(f"compare={config['compare']}; choose true or false")
    files, checkpoints = listed(config["predictions"]), listed(config["checkpoint"])
    if config["compare"] and len(files or checkpoints) < 2:
        raise BloodcellError("compare=true wants two or more: checkpoint=[A,B], or predictions=[A.csv,B.csv]")
    if len(files) > 1 and not config["compare"]:
        raise BloodcellError("several files of predictions are compared, not averaged; add compare=true, or give one")
    return bool(config["compare"])


def compare(tables: Mapping[Path, pd.DataFrame], folder: Path, trained_on: frozenset[str]) -> dict[str, Any]:
    """Write each system's predictions and figures, and the comparison of the first with each of the others, and say it.

    Args:
        tables: Checkpoint or file -> its predictions table, two or more.
        folder: Where it goes.
        trained_on: Sources of the training images of any of them.

    Returns:
        The content of metrics.json: checkpoint or file -> its figures.

    Raises:
        BloodcellError: The tables are of different images.
    """
    named = {str(path): table for path, table in tables.items()}
    said = write_comparison(named, folder, trained_on)
    for number, table in enumerate(named.values()):
        write_csv(table, folder / f"predictions_{number}.csv")
    metrics = {name: figures_of(table, trained_on) for name, table in named.items()}
    write_json(metrics, folder / "metrics.json")
    say(f"the first of {len(named)} is {next(iter(named))}")
    for line in said:
        say(line)
    return metrics
