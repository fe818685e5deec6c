"""What a study leaves: a table, pictures, TensorBoard's HParams, and the best configuration as an experiment file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.evaluation.figures import save
from bloodcell.runtime.console import console, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically, write_csv
from bloodcell.tuning.experiment import experiment_text, train_command
from bloodcell.tuning.plots import history_figure, importance_figure, parallel_figure
from bloodcell.tuning.search_space import tidy
from bloodcell.tuning.trial_config import Recipes
from bloodcell.tuning.trial_lines import best_of, counts, shown, top_table, value_text

#: Trials that must have come to their end before the importance of a key can be told at all.
ENOUGH = 10


def conclude(
    study: Any, trials: list[Any], metric: str, folds: list[int] | None, recipes: Recipes, folder: Path, work: Path
) -> float:
    """Write all that a study leaves, say what is best, and return its figure.

    Args:
        study: Optuna's, for the importances.
        trials: All trials, each ended.
        metric: The figure.
        folds: Over which it is averaged.
        recipes: Where the trials' configurations came from.
        folder: The study's.
        work: This process's own folder within it.

    Raises:
        BloodcellError: No trial came to its end.
    """
    table = table_of(trials)
    write_csv(table, folder / "trials.csv")
    for trial in trials:
        keep_trial(trial, metric, folder, work)
    if (best := best_of(trials, metric)) is None:
        raise BloodcellError(f"no trial came to its end ({counts(trials)}); the reasons are in {folder / 'trials.csv'}")
    draw(study, table, metric, folder / "figures")
    file = folder / "conf" / "experiment" / "tuned.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = experiment_text(recipes.overrides, best, metric, folds, folder, recipes.is_group)
    write_atomically(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    console.print(top_table(trials, metric))
    say(f"{counts(trials)}; {folder / 'trials.csv'}, {folder / 'figures'}")
    figure = f"{metric.replace('_', ' ')} {shown(best.value, metric)}"
    say(f"best: trial {best.number}, {figure}; it was chosen as the best of them, so on others expect less")
    say(f"train it: {train_command(recipes.overrides, folder)}")
    return float(best.value)


def table_of(trials: list[Any]) -> pd.DataFrame:
    """Return a row per trial in their order: trial, state, value, seconds, steps, error, and a column for each key."""
    rows = [
        {
            "trial": trial.number, "state": trial.state.name.lower(), "value": trial.value,
            "seconds": trial.user_attrs.get("seconds"), "steps": len(trial.intermediate_values),
            "error": trial.user_attrs.get("error", ""), **{key: tidy(value) for key, value in trial.params.items()},
        }
        for trial in trials
    ]  # fmt: skip
    return pd.DataFrame(rows)


def draw(study: Any, table: pd.DataFrame, metric: str, folder: Path) -> None:
    """Draw the course of the study, its trials as lines over all keys, and how much each key matters."""
    folder.mkdir(exist_ok=True)
    complete = table[table["state"] == "complete"]
    ranges = next(trial.distributions for trial in study.trials if trial.number == complete["trial"].iloc[0])
    save(history_figure(table, metric), folder / "history.png")
    save(parallel_figure(complete, ranges, metric), folder / "parallel_coordinates.png")
    if len(complete) < ENOUGH:
        say(f"importance of the keys: {len(complete)} complete trials tell too little; {ENOUGH} are wanted")
        return
    import optuna

    importances = optuna.importance.get_param_importances(study)
    save(importance_figure(importances, len(complete)), folder / "importance.png")


def keep_trial(trial: Any, metric: str, folder: Path, work: Path) -> None:
    """Write a trial for TensorBoard, once: its values as HParams with the figure, and its figure after each step.

    Two processes may be at the same trial: each writes in its own folder, and the first one's is kept.

    Args:
        trial: One that has ended.
        metric: The figure.
        folder: The study's.
        work: This process's own folder within it, which is removed where the process dies.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    target = folder / "tensorboard" / f"trial-{trial.number:04d}"
    if target.is_dir():
        return
    target.parent.mkdir(exist_ok=True)
    temporary = work / target.name
    values = {key: value_text(value) if value is None else tidy(value) for key, value in trial.params.items()}
    figures = {} if trial.value is None else {f"hparam/{metric}": trial.value}
    writer: Any = SummaryWriter(str(temporary))
    summaries: Any = hparams
    try:
        for summary in summaries({**values, "state": trial.state.name.lower()}, figures):
            writer.file_writer.add_summary(summary)
        for name, value in figures.items():
            writer.add_scalar(name, value)
        for step, value in sorted(trial.intermediate_values.items()):
            writer.add_scalar(f"val/{metric}", value, step + 1)
    finally:
        writer.close()
    try:
        temporary.replace(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(temporary)  # another process was first
