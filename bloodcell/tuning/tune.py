"""The verb `tune`: a study of trials, each a training with its own values, and the best of them."""

from __future__ import annotations

from json import JSONDecodeError
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.metrics.registry import tunable
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import command, continuation, keep_continuation
from bloodcell.runtime.config import instantiate, plain, typed, uses_cache
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_json
from bloodcell.runtime.schema.verbs import TuneConfig
from bloodcell.tuning import storage, workers
from bloodcell.tuning.search_space import read_space
from bloodcell.tuning.trial_config import TrialConfigs


def run(cfg: DictConfig) -> None:
    """Tune in the folder that Hydra chose."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        raise BloodcellError("tune is one study, not a multirun; leave out -m, and give tune.folds=5 for folds")
    folder, overrides = Path(job.runtime.output_dir), list(job.overrides.task)
    try:
        tune(cfg, folder, overrides)
    except KeyboardInterrupt as error:
        more = [] if any(item.startswith("study=") for item in overrides) else [f"study={folder}"]
        keep_continuation(error, storage.without_password(continuation(None, *more)))
        raise


@uses_cache
def tune(cfg: DictConfig, folder: Path, overrides: list[str]) -> None:
    """Run the trials that a study lacks, then write what it leaves.

    Hydra must be at work, as each trial is composed anew.

    Args:
        cfg: The configuration that `conf/tune.yaml` composes.
        folder: The study's: a new one, or that of a study to continue.
        overrides: The command line's part of the configuration.

    Raises:
        BloodcellError: Anything that the user got wrong, the first trials all failed, or no trial is complete.
    """
    with progress("loading Optuna"):
        storage.require_optuna()
        from optuna.exceptions import StorageInternalError

        config = typed(cfg, TuneConfig)
        space, configs, folds = read_space(config.sweep), TrialConfigs(overrides), check_settings(config)
        configs.check(space)
        _sampler(config, 0)  # whether there is such a sampler is known before images are read
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if "study.json" not in there and there - {"study.db", "study.db-journal"}:  # one killed at its start has these
        raise BloodcellError(f"study={folder} holds something, but no study (study.json); choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _run_study(config, configs, space, folds, folder)
    except JSONDecodeError as error:
        raise BloodcellError(f"study={folder}: its storage is damaged ({error}); choose another folder") from error
    except (StorageInternalError, UnboundLocalError) as error:  # Optuna 5.0 may raise the second in place of another
        cause = error if isinstance(error, StorageInternalError) else error.__context__
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        if not isinstance(cause, StorageInternalError):
            raise
        reason = " ".join(str(cause.__cause__ or cause).split())[:200]
        raise BloodcellError(
            f"the study's storage failed ({reason}); the same command with study=FOLDER continues it"
        ) from error


def _run_study(
    config: TuneConfig, configs: TrialConfigs, space: dict[str, Any], folds: list[int] | None, folder: Path
) -> None:
    from bloodcell.tuning.objective import Objective
    from bloodcell.tuning.study_results import TrialLog, conclude

    settings, further = config.tune, workers.is_further()
    metric, wanted = settings.metric, settings.trials
    pruner = instantiate(settings.pruner or {"_target_": "optuna.pruners.NopPruner"})
    threads = _share_cores(settings.workers)
    objective = Objective(configs, space, metric, folds, folder, lambda number: _sampler(config, number))
    if further:
        workers.end_with_first()
    else:
        with progress("preparing the study"):
            objective.prepare()
    samples = objective.samples_of(objective.configured({}, folds[0] if folds else None))
    ranges = {key: str(one) for key, one in space.items()}
    identity = storage.identity_of(plain(configs.base), ranges, metric, folds, samples)
    name = str(settings.name or folder.absolute().name)
    opened = storage.open_storage(settings.storage, folder)
    study = storage.open_study(opened, name, tunable()[metric], identity)
    study.sampler, study.pruner = _sampler(config, 0), pruner
    log = TrialLog(study, wanted, metric, folder)
    if further:
        workers.work(study, opened, objective, wanted, log)
        return
    record = {**run_folder.circumstances(), "command": storage.without_password(command()), "name": name}
    write_json({**record, **identity, "trials": wanted}, folder / "study.json")
    val, done = samples.of_split("val"), len(log.known)
    known = f" from {val.table['source'].nunique():,} sources" if val.sources_known() else ", sources unknown"
    say(f"{done} of {wanted} trials finished; by {metric} of {len(val.table):,} validation images{known}")
    say(f"varying {', '.join(space)}; study in {folder}")
    with workers.further_workers(settings.workers - 1, folder, threads):
        workers.work(study, opened, objective, wanted, log)
    conclude(study, metric, folds, configs, folder)


def _share_cores(count: int) -> int:
    """Give this process its share of the cores, and return how many threads that is."""
    import torch

    if count > 1:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cpu_count() // count)))
    return torch.get_num_threads()


def _sampler(config: TuneConfig, number: int) -> Any:
    """Build the sampler of a trial; its random numbers follow from seed and number."""
    node = config.tune.sampler
    try:
        return instantiate(node, seed=(config.seed * 1_000_003 + number) % 2**32)
    except BloodcellError:
        return instantiate(node)  # one without random numbers


def check_settings(config: TuneConfig) -> list[int] | None:
    """Return the folds of a study; None: one validation part.

    Raises:
        BloodcellError: A setting of `tune` makes no sense, or a test part would be read.
    """
    metric, asked, count = config.tune.metric, config.tune.folds, config.data.folds
    if metric not in tunable():
        raise BloodcellError(f"tune.metric={metric}; {nearest(metric, tunable())}")
    if config.evaluate.test:
        raise BloodcellError("tune never reads a test part; leave out evaluate.test=true")
    if asked is None:
        return None
    if config.data.fold is not None:
        raise BloodcellError("give tune.folds or data.fold, not both")
    folds = list(range(asked)) if isinstance(asked, int) else asked
    right = isinstance(folds, list) and all(isinstance(fold, int) and 0 <= fold < count for fold in folds)
    if not right or not folds or len(set(folds)) < len(folds):
        raise BloodcellError(
            f"tune.folds={asked}; give different folds from 0 to {count - 1} (data.folds={count}), or how many"
        )
    return folds
