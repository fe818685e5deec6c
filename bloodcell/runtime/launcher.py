"""The devices that a command asks for, and one process for each: started here, or by torchrun or srun."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bloodcell.runtime import distributed
from bloodcell.runtime.command import called_from_python
from bloodcell.runtime.config import plain, typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import device_arguments
from bloodcell.runtime.schema.trainer import TrainerConfig
from bloodcell.runtime.signals import Terminated


def count_of(devices: Any, accelerator: str = "auto") -> int:
    """Return how many devices of a machine are asked for.

    Args:
        devices: A number or a list of positions; auto or -1: one per started process, else all GPUs; None: one.
        accelerator: Lightning's argument.

    Raises:
        BloodcellError: `devices` is something else.
    """
    if devices is None:
        return 1
    if isinstance(devices, list) and devices:
        return len(devices)
    if str(devices) in ("auto", "-1"):
        if place := distributed.announced():
            return place.local_size
        import torch

        return 1 if accelerator == "cpu" else torch.cuda.device_count() or 1
    if isinstance(devices, bool) or not str(devices).isdecimal() or int(devices) < 1:
        raise BloodcellError(f"devices={devices}; give a number of 1 or more, auto, or a list such as [0,1]")
    return int(devices)


def trainer_devices(cfg: Any) -> tuple[int, int]:
    """Return the numbers of devices per machine and of machines that a training's configuration asks for.

    Raises:
        BloodcellError: One is no number, or the devices do not exist.
    """
    trainer = typed(OmegaConf.create(plain(cfg.trainer)), TrainerConfig, "trainer")
    return count_of(**device_arguments(trainer.gpus, trainer.accelerator, trainer.devices)), trainer.num_nodes


def launch(devices: int, machines: int = 1, folder: Path | None = None) -> None:
    """Run this command in one process for each device of each machine and exit with its code.

    Returns if one process suffices, or if this is one of several. `folder` is the one that Hydra made for this process,
    which is then not needed.

    Raises:
        BloodcellError: This is a multirun, or several machines are asked for but torchrun or srun started nothing.
    """
    if devices * machines == 1 and distributed.here().size == 1:
        return
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise BloodcellError("a multirun works on one device; start jobs of several devices one by one")
    if distributed.announced() is not None:
        return
    if machines > 1:
        raise BloodcellError(
            f"trainer.num_nodes={machines}: start the command on each machine with torchrun, or with srun; "
            "see docs/several_devices.md"
        )
    if folder is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if called_from_python():
        raise BloodcellError("from Python, a verb works on one device; start it as a command for several")
    _launch(devices)
    raise SystemExit(0)


def _launch(count: int) -> None:
    """Run this process's command in several processes, as torchrun does; end like the first that fails."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # the process that failed says why
    try:
        with tempfile.TemporaryDirectory() as scratch:  # else a folder is left behind
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=count,
                max_restarts=0,
                run_id=distributed.OWN,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                logs_specs=DefaultLogsSpecs(scratch),
            )
            elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
    except SignalException as error:
        raise (Terminated if error.sigval == signal.SIGTERM else KeyboardInterrupt) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == 128 + signal.SIGTERM:
            raise Terminated from None
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            raise BloodcellError(f"process {rank} of {count} was killed ({name}); the others were ended") from None
        raise SystemExit(failure.exitcode) from None


def require(devices: int, machines: int) -> None:
    """Raise a BloodcellError unless one process per device runs on each machine."""
    place = distributed.here()
    if (place.local_size, place.size) != (devices, devices * machines):
        raise BloodcellError(
            f"trainer.devices={devices} and trainer.num_nodes={machines} do not fit the number of processes, "
            f"{place.size} with {place.local_size} on each machine; set trainer.devices={place.local_size} "
            f"and trainer.num_nodes={place.size // place.local_size}"
        )
