"""What a study leaves: a table, plots, TensorBoard's HParams, and the best configuration as an experiment file."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from bloodcell.runtime.command import say_end
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv, write_text
from bloodcell.tuning.objective import SCRATCH
from bloodcell.tuning.plots import draw, short_names
from bloodcell.tuning.search_space import tidy
from bloodcell.tuning.storage import failure, finished_trials
from bloodcell.tuning.trial_config import PLACES, TrialConfigs, key_of, lies_in

#: If all of the first trials failed, this many or more, so will the others.
HOPELESS = 5


class TrialLog:
    """Prints and writes the trials of a study that end while this process works on it, until `wanted` have ended."""

    def __init__(self, study: Any, wanted: int, metric: str, folder: Path) -> None:
        self.study, self.wanted, self.metric, self.folder = study, wanted, metric, folder
        self.known = {trial.number for trial in finished_trials(study)}
        self.before, self.started = len(self.known), time.perf_counter()

    def __call__(self) -> None:
        """Print a line of each trial that is new; write the table and TensorBoard's files.

        Raises:
            BloodcellError: A trial failed, as all others of the study did.
        """
        finished = finished_trials(self.study)
        new = [trial for trial in finished if trial.number not in self.known]
        if not new:
            return
        each = (time.perf_counter() - self.started) / (len(finished) - self.before)
        best = best_of(finished, self.metric)
        for count, trial in enumerate(new, len(self.known) + 1):
            left = each * max(0, self.wanted - count) / 60
            say(f"{count}/{self.wanted}   {trial_line(trial, best, self.metric)}   {left:.1f} min left")
            write_tensorboard(trial, self.metric, self.folder)
        write_csv(table_of(finished), self.folder / "trials.csv", exact=True)  # a trial can be trained again from it
        self.known = {trial.number for trial in finished}
        if len(finished) >= HOPELESS and all(map(failure, finished)):
            raise BloodcellError(f"the first {len(finished)} trials all failed, the last one so: {failure(new[-1])}")


def conclude(study: Any, metric: str, folds: list[int] | None, configs: TrialConfigs, folder: Path) -> None:
    """Write all that a finished study leaves, and print which trial is best.

    Raises:
        BloodcellError: No trial is complete.
    """
    trials = finished_trials(study)
    write_csv(table_of(trials), folder / "trials.csv", exact=True)
    for trial in trials:
        write_tensorboard(trial, metric, folder)
    for left in folder.glob(f"{SCRATCH}*"):  # of workers that were killed
        shutil.rmtree(left, ignore_errors=True)
    if (best := best_of(trials, metric)) is None:
        raise BloodcellError(f"no trial is complete ({counts(trials)}); the reasons are in {folder / 'trials.csv'}")
    with progress("plots"):
        draw(study, metric, folder / "figures")
    places = [item for item in configs.overrides if lies_in(key_of(item), PLACES)]
    conf = (folder / "conf").as_posix()
    words = ["train", "--config-dir", conf, "experiment=tuned", *places]
    command = shlex.join(["python", "train.py", *words[1:]])
    value = f"{metric.replace('_', ' ')} {shown(best.value, metric)}"
    over = "" if folds is None else f", the mean over data.fold={','.join(map(str, folds))} of data.folds"
    header = (
        f"# @package _global_\n# Trial {best.number} of the study in {folder.absolute().as_posix()}.\n#   {command}\n"
        "# or, from a copy in conf/experiment: python train.py experiment=tuned data.root=DIR\n"
        f"# Of validation: {value}{over}.\n"
        "# It was chosen as the best of many by these images, so expect less on others.\n\n"
    )
    file = folder / "conf" / "experiment" / "tuned.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(header + experiment(configs.overrides, best.params, configs.is_group), file)
    say(counts(trials))
    say(f"best: trial {best.number}, {value}; it was chosen as the best of them, so expect less on other images")
    say_end(folder / "trials.csv", folder / "figures", then=words)


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


def table_of(trials: list[Any]) -> pd.DataFrame:
    """Return a row per trial: trial, state, value, seconds, steps, error, and a column for each key."""
    rows = [
        {
            "trial": trial.number, "state": trial.state.name.lower(), "value": trial.value,
            "seconds": round(trial.duration.total_seconds(), 2), "steps": len(trial.intermediate_values),
            "error": failure(trial), **{key: tidy(value) for key, value in trial.params.items()},
        }
        for trial in trials
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_tensorboard(trial: Any, metric: str, folder: Path) -> None:
    """Write a finished trial of Optuna's for TensorBoard, once: its values as HParams, and its metric of each step."""
    from torch.utils.tensorboard import SummaryWriter

    target = folder / "tensorboard" / f"trial-{trial.number:04d}"
    if target.is_dir():
        return
    target.parent.mkdir(exist_ok=True)
    values = {key: value_text(value) if value is None else tidy(value) for key, value in trial.params.items()}
    result = {} if trial.value is None else {f"hparam/{metric}": trial.value}
    with TemporaryDirectory(prefix=".run-", dir=folder) as temporary:
        run = Path(temporary) / target.name
        with SummaryWriter(str(run)) as writer:
            writer.add_hparams({**values, "state": trial.state.name.lower()}, result, run_name=".")
            for step, value in sorted(trial.intermediate_values.items()):
                writer.add_scalar(f"val/{metric}", value, step + 1)
        try:
            run.rename(target)
        except OSError:  # another process was first
            if not target.is_dir():
                raise


def experiment(overrides: list[str], params: dict[str, Any], is_group: Callable[[str], bool]) -> str:
    """Return an experiment file: the command line's choices, with a trial's values over them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides([item for item in overrides if not lies_in(key_of(item), PLACES)])
    chosen = {item.key_or_group: None if item.is_delete() else item.value() for item in parsed}
    chosen |= {key: tidy(value) for key, value in params.items()}
    base = chosen.pop("experiment", None)
    groups = {key for key, value in chosen.items() if is_group(key) and not isinstance(value, dict)}
    defaults = [*([base] if base else []), *({f"override /{key}": chosen[key]} for key in chosen if key in groups)]
    node = OmegaConf.create({"defaults": defaults} if defaults else {})
    for key, value in chosen.items():
        if key not in groups:
            OmegaConf.update(node, key, value, force_add=True)
    return str(OmegaConf.to_yaml(node))
