"""The verb `tune`: a study of trials with settings of their own, and what is best of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.runtime import run_folder
from bloodcell.runtime.config import check_types, instantiate, plain
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_json
from bloodcell.tuning import processes, storage
from bloodcell.tuning.search_space import Dimension, read_space
from bloodcell.tuning.trial_config import Recipes
from bloodcell.tuning.trial_queue import Slots

#: Every trial goes to its end.
NO_PRUNER = {"_target_": "optuna.pruners.NopPruner"}


def run(cfg: DictConfig) -> float:
    """Tune in the folder that Hydra chose."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        raise BloodcellError("tune is one study, not a multirun; leave out -m, and give tune.folds=5 for folds")
    check_types("tune", [item for item in job.overrides.task if "sweep." not in item.partition("=")[0]])
    return tune(cfg, Path(job.runtime.output_dir), list(job.overrides.task))


def tune(cfg: DictConfig, folder: Path, overrides: list[str]) -> float:
    """Do the trials that a study lacks, then say what is best.

    Hydra must be at work, as each trial is composed anew.

    Args:
        cfg: The configuration that `conf/tune.yaml` composes.
        folder: The study's: a new one, or that of a study which goes on.
        overrides: The command line's part of the configuration.

    Returns:
        The best figure.

    Raises:
        BloodcellError: Anything that the user got wrong, or no trial came to its end.
    """
    storage.require_optuna()
    storage.silence()
    config = plain(cfg)
    settings, space, recipes = config["tune"], read_space(config["sweep"]), Recipes(overrides)
    folds = check_settings(config)
    recipes.check(space)
    pruner = instantiate(settings["pruner"] or NO_PRUNER)
    _sampler(config, 0)
    if not (folder / "study.json").is_file() and not processes.is_helper():
        refuse_used(folder)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0 if processes.is_helper() else settings["workers"] - 1
    started = processes.start(count, folder, settings["workers"])
    with processes.ending(started), storage.database_errors():
        try:
            if processes.is_helper():
                processes.wait_for_go()
            return _at_work(config, folder, recipes, space, folds, pruner, started)
        except (BloodcellError, KeyboardInterrupt) as error:
            if processes.is_helper():  # the first process comes to the same, and says it
                raise SystemExit(1) from error
            raise


def _at_work(
    config: dict[str, Any],
    folder: Path,
    recipes: Recipes,
    space: list[Dimension],
    folds: list[int] | None,
    pruner: Any,
    started: Any,
) -> float:
    """Open the study, do trials, and write what came out."""
    import torch

    from bloodcell.tuning.objective import METRICS, Objective
    from bloodcell.tuning.study_results import conclude, keep_trial
    from bloodcell.tuning.trial_lines import best_of
    from bloodcell.tuning.worker import work

    settings, metric = config["tune"], config["tune"]["metric"]
    sharing = processes.sharing(settings["workers"])
    if sharing > 1:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cpu_count() // sharing)))
    objective = Objective(recipes, metric, folds, folder)
    if not processes.is_helper():
        objective.prepare()
    first = objective.samples_of(objective.configured({}, folds[0] if folds else None))
    described = {one.key: one.described() for one in space}
    identity = storage.identity_of(plain(recipes.base), described, metric, folds, first)
    opened = storage.open_storage(settings["storage"], folder)
    name = str(settings["name"] or folder.absolute().name)
    study = storage.open_study(opened, name, METRICS[metric], identity)
    study.pruner = pruner
    shared = not storage.is_file(settings["storage"])
    turn = storage.turn_of(settings["storage"], folder)
    slots = Slots(study, opened, settings["trials"], folder, turn, shared, lambda number: _sampler(config, number))
    objective.work = slots.work
    try:
        if not processes.is_helper():
            record = run_folder.circumstances() | {
                "command": storage.without_password(run_folder.command()),
                "name": name,
            }
            write_json({**record, **identity, "trials": settings["trials"]}, folder / "study.json")
            say(_start_line(slots, space, first, metric, folder))
        processes.go(started)
        work(slots, objective, space, lambda trial: keep_trial(trial, metric, folder, slots.work))
        if processes.is_helper():
            best = best_of(slots.trials(), metric)
            return float(best.value) if best else math.nan
        return conclude(study, slots.trials(), metric, folds, recipes, folder, slots.work)
    finally:
        slots.close()


def _sampler(config: dict[str, Any], number: int) -> Any:
    """Build the sampler of a trial; its random numbers follow from seed and number."""
    node = config["tune"]["sampler"]
    try:
        return instantiate(node, seed=(config["seed"] * 1_000_003 + number) % 2**32)
    except BloodcellError:
        return instantiate(node)  # one without random numbers


def _start_line(slots: Slots, space: list[Dimension], samples: Any, metric: str, folder: Path) -> str:
    done, val = len(slots.finished()), samples.of_split("val")
    known = f" from {val.table['source'].nunique():,} sources" if val.sources_known() else ", sources unknown"
    begun = f"{done} of {slots.wanted} trials are done" if done else f"{slots.wanted} trials"
    keys = ", ".join(one.key for one in space)
    return f"{begun} by {metric} of {len(val.table):,} validation images{known}; varying {keys}\nstudy in {folder}"


def check_settings(config: dict[str, Any]) -> list[int] | None:
    """Return the folds of a study; None: one validation part.

    Raises:
        BloodcellError: A setting of `tune` makes no sense, or a test part would be read.
    """
    from bloodcell.tuning.objective import METRICS

    settings = config["tune"]
    for key, least in (("trials", 1), ("workers", 1)):
        if not isinstance(settings[key], int) or settings[key] < least:
            raise BloodcellError(f"tune.{key}={settings[key]}; give a whole number of {least} or more")
    if settings["metric"] not in METRICS:
        raise BloodcellError(f"tune.metric={settings['metric']}; {nearest(str(settings['metric']), METRICS)}")
    if config["evaluate"]["test"]:
        raise BloodcellError("tune never reads a test part; leave out evaluate.test=true")
    if not 0 <= config["seed"] < 2**32:
        raise BloodcellError(f"seed={config['seed']}; give a whole number from 0 to {2**32 - 1}")
    return _folds(settings["folds"], config["data"])


def _folds(asked: Any, data: dict[str, Any]) -> list[int] | None:
    """Return which folds a figure is averaged over."""
    if asked is None:
        return None
    folds, count = (list(range(asked)) if isinstance(asked, int) else asked), data["folds"]
    if data["fold"] is not None:
        raise BloodcellError("give tune.folds or data.fold, not both")
    right = isinstance(folds, list) and all(isinstance(fold, int) and 0 <= fold < count for fold in folds)
    if not right or not folds or len(set(folds)) < len(folds):
        raise BloodcellError(
            f"tune.folds={asked}; give different folds from 0 to {count - 1} (data.folds={count}), or how many"
        )
    return folds


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds something but no study; that of a study which died at its start holds nothing else.

    Raises:
        BloodcellError: See above.
    """
    others = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    if set(others) - {"workers", "study.db", "study.db-journal", "study.db.lock"}:
        raise BloodcellError(f"study={folder} holds something, but no study (study.json); choose another folder")
