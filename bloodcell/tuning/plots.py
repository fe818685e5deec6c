"""Plots of a study, by Optuna: its history, its trials over all keys, and the importance of each key."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bloodcell.runtime.console import say
from bloodcell.runtime.io import write_atomically

#: Complete trials from which on the importance of a key means something.
ENOUGH = 10


def draw(study: Any, metric: str, folder: Path) -> None:
    """Draw a study with at least one complete trial into history.png, parallel_coordinates.png and importance.png.

    The importance is that of PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255).
    """
    import matplotlib as mpl

    mpl.use("agg")  # files, whether there is a screen or not
    from optuna.visualization import matplotlib as plots

    folder.mkdir(exist_ok=True)
    renamed, name = _with_short_names(study), metric.replace("_", " ")
    keys, count = len(renamed.trials[0].params), len(renamed.trials)
    _save(plots.plot_optimization_history, study, name, folder / "history.png", (8, 4))
    _save(plots.plot_parallel_coordinate, renamed, name, folder / "parallel_coordinates.png", (1.4 * keys + 3, 5))
    if count < ENOUGH or len({trial.value for trial in renamed.trials}) == 1:
        say(f"no plot of the importance of keys: it needs {ENOUGH} complete trials, and different values among them")
    else:
        _save(plots.plot_param_importances, renamed, name, folder / "importance.png", (7, 0.4 * keys + 1.2))


def short_names(keys: list[str]) -> dict[str, str]:
    """Return each key's last part, or the whole key if another one ends alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def _with_short_names(study: Any) -> Any:
    """Return the complete trials as a study whose keys are short: lr in place of optimizer.lr."""
    import optuna

    copy = optuna.create_study(direction=study.direction)
    for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        names = short_names(list(trial.params))
        params, ranges = (
            {names[key]: value for key, value in of.items()} for of in (trial.params, trial.distributions)
        )
        copy.add_trial(optuna.create_trial(params=params, distributions=ranges, value=trial.value))
    return copy


def _save(plot: Callable[..., Any], study: Any, name: str, file: Path, size: tuple[float, float]) -> None:
    import matplotlib.pyplot as plt

    # the context keeps Optuna's style from other figures, too
    with plt.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Attempting to set identical")  # all trials have the same value
        axes = plot(study, target_name=name)
        axes.figure.set_size_inches(size)
        for one in axes.figure.axes:
            one.tick_params(labelsize=8)
        if file.stem == "parallel_coordinates":
            labels = [label.get_text().replace("_", "\n").replace(" by", "\nby") for label in axes.get_xticklabels()]
            axes.set_xticks(axes.get_xticks(), labels, rotation=0)
        look = {"dpi": 130, "bbox_inches": "tight", "format": file.suffix[1:]}
        write_atomically(file, lambda temporary: axes.figure.savefig(temporary, **look))
        plt.close(axes.figure)
