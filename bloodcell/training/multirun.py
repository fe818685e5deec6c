"""Hydra's jobs: a single run, or one of a multirun, whose failure does not stop the others."""

from __future__ import annotations

import gc
import math
import traceback
from pathlib import Path

from omegaconf import DictConfig

from bloodcell.runtime import distributed, run_folder
from bloodcell.runtime.command import continuation, keep_continuation
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_text
from bloodcell.runtime.launcher import launch, trainer_devices
from bloodcell.runtime.user_errors import user_message
from bloodcell.training.train import train


def run(cfg: DictConfig) -> dict[str, float] | None:
    """Run a single run or a job of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    folder = distributed.once(lambda: Path(job.runtime.output_dir))
    if job.mode == RunMode.RUN:
        try:
            launch(*trainer_devices(cfg), folder)
        except KeyboardInterrupt as error:  # the processes that it started chose the run's folder
            keep_continuation(error, continuation(None, "resume=auto"))
            raise
        return train(cfg, folder, overrides=list(job.overrides.task))
    if distributed.here().size > 1 or _asks_for_several(cfg):
        launch(*trainer_devices(cfg))  # which a multirun refuses
    return job_of_many(cfg, folder, list(job.overrides.task), job.job.num)


def _asks_for_several(cfg: DictConfig) -> bool:
    """Return whether a job asks for several devices; one that asks for missing devices fails when it runs."""
    try:
        return math.prod(trainer_devices(cfg)) > 1
    except BloodcellError:
        return False


def job_of_many(cfg: DictConfig, folder: Path, overrides: list[str], number: int) -> dict[str, float] | None:
    """Train a job of a multirun and return its metrics.

    If it fails, record that in its folder, print one line and return None.
    """
    gc.collect()  # trainer, net and loops of the previous job refer to each other
    choices = [item for item in overrides if not item.startswith("hydra.")]
    say(f"job {number}: {' '.join(choices)}")
    try:
        return train(cfg, folder, many=True, overrides=overrides)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
        message = user_message(error) or f"{type(error).__name__}: {error}"
        folder.mkdir(parents=True, exist_ok=True)
        write_text("".join(traceback.format_exception(error)), folder / "error.txt")
        run_folder.write_run(folder, status="failed", error=message, overrides=choices)
        say(f"job {number} failed: {message}")
        return None
