"""The best trial as an experiment file: the command line's choices with the trial's values over them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bloodcell.tuning.search_space import tidy
from bloodcell.tuning.trial_lines import shown

#: What belongs to a machine or a folder and not to an experiment.
PLACES = ("data.root", "data.workers", "data.in_memory", "cache", "outputs", "features.root", "trainer.gpus",
          "trainer.accelerator", "trainer.devices", "trainer.enable_progress_bar")  # fmt: skip


def experiment_text(
    overrides: list[str],
    trial: Any,
    metric: str,
    folds: list[int] | None,
    folder: Path,
    is_group: Callable[[str], bool],
) -> str:
    """Return an experiment file that composes to a trial's configuration.

    Args:
        overrides: The command line's, without the verb's own.
        trial: The trial.
        metric: The figure.
        folds: Over which it is averaged.
        folder: The study's.
        is_group: Says whether a key chooses a file of a group.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    bases: list[str] = []
    groups: dict[str, Any] = {}
    values: dict[str, Any] = {}
    parsed = OverridesParser.create().parse_overrides([item for item in overrides if not _is_place(item)])
    chosen = [(item.key_or_group, None if item.is_delete() else item.value()) for item in parsed]
    for key, value in [*chosen, *((key, tidy(value)) for key, value in trial.params.items())]:
        if key == "experiment":
            bases = [str(value)] if value is not None else []
        elif is_group(key) and not isinstance(value, dict):
            groups[key] = value
        else:
            values[key] = value
    defaults = [*bases, *({f"override /{key}": value} for key, value in groups.items())]
    content: dict[str, Any] = {"defaults": defaults} if defaults else {}
    node = OmegaConf.create(content)
    for key, value in values.items():
        OmegaConf.update(node, key, value, force_add=True)
    return f"{_header(overrides, trial, metric, folds, folder)}\n{OmegaConf.to_yaml(node)}"


def _header(overrides: list[str], trial: Any, metric: str, folds: list[int] | None, folder: Path) -> str:
    """Say what it is, how to run it, and what it came to."""
    over = "" if folds is None else f", the mean over data.fold={','.join(map(str, folds))} of data.folds"
    return "\n".join(
        [
            "# @package _global_",
            f"# Trial {trial.number} of the study in {folder.absolute().as_posix()}.",
            f"#   {train_command(overrides, folder)}",
            "# or, from a copy in conf/experiment: python train.py experiment=tuned data.root=DIR",
            f"# Its {metric.replace('_', ' ')} of validation: {shown(trial.value, metric)}{over}.",
            "# It was chosen as the best of many by these images, so on others expect less.",
        ]
    )


def train_command(overrides: list[str], folder: Path) -> str:
    """Return the command that trains the best configuration, where the study was."""
    places = [item for item in overrides if _is_place(item)]
    return shlex.join(["python", "train.py", "--config-dir", (folder / "conf").as_posix(), "experiment=tuned", *places])


def _is_place(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return any(key == place or key.startswith(f"{place}.") for place in PLACES)
