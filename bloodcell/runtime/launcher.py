"""One process for each device: started here, or by torchrun or srun."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from bloodcell.runtime import distributed
from bloodcell.runtime.config import plain
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import device_arguments
from bloodcell.runtime.signals import Terminated

_ONE_BY_ONE = "start jobs of several devices one by one"
#: What several processes can do together.
SHARED = ("train", "evaluate", "predict")


def check_verb(verb: str, many: bool) -> None:
    """Refuse what processes that were started together cannot do together.

    Args:
        verb: What is asked for.
        many: It is a multirun.

    Raises:
        BloodcellError: One process does it.
    """
    place = distributed.announced()
    if place is None or place.size == 1:
        return
    if verb not in SHARED:
        raise BloodcellError(f"{verb} works in one process, and {place.size} were started; start it without them")
    if many:
        raise BloodcellError(f"a multirun works in one process, and {place.size} were started; {_ONE_BY_ONE}")


def count_of(devices: Any, accelerator: str = "auto") -> int:
    """Return how many devices of a machine are asked for.

    Args:
        devices: A number, a list of positions; auto or -1: as many processes as were started, else all GPUs; None: one.
        accelerator: Lightning's word.

    Raises:
        BloodcellError: It is no such number.
    """
    if isinstance(devices, list) and devices:
        return len(devices)
    if str(devices) in ("auto", "-1"):
        if place := distributed.announced():
            return place.local_size
        import torch

        return 1 if accelerator == "cpu" else torch.cuda.device_count() or 1
    if devices is None:
        return 1
    if isinstance(devices, bool) or not str(devices).isdecimal() or int(devices) < 1:
        raise BloodcellError(f"devices={devices}; give a number of 1 or more, auto, or a list such as [0,1]")
    return int(devices)


def trainer_devices(cfg: Any) -> tuple[int, int]:
    """Return how many devices of each machine a training takes, and how many machines.

    Args:
        cfg: The configuration with the node `trainer`.

    Raises:
        BloodcellError: See `bloodcell.runtime.hardware.device_arguments` and `count_of`.
    """
    trainer = plain(cfg.trainer)
    found = device_arguments(*(trainer[key] for key in ("gpus", "accelerator", "devices")))
    machines = trainer["num_nodes"]
    if not isinstance(machines, int) or machines < 1:
        raise BloodcellError(f"trainer.num_nodes={machines}; give the number of machines")
    return count_of(found["devices"], found["accelerator"]), machines


def launch(devices: int, machines: int = 1, folder: Path | None = None) -> None:
    """Start this command once for each device and leave with its exit code; go on where that is not wanted, or done.

    Args:
        devices: How many of this machine.
        machines: How many take part.
        folder: That Hydra made for this process, which does not need it.

    Raises:
        BloodcellError: Processes on several machines have to be started there; or one was killed.
    """
    if devices * machines == 1 and distributed.here().size == 1:
        return
    if _in_multirun():
        raise BloodcellError(f"a multirun works on one device; {_ONE_BY_ONE}")
    if distributed.announced() is not None:
        return
    if machines > 1:
        raise BloodcellError(
            f"trainer.num_nodes={machines}: start the command on each machine with torchrun, or with srun; "
            "see docs/several_devices.md"
        )
    if folder is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    raise SystemExit(_launch(devices))


def _in_multirun() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _launch(count: int) -> int:
    """Run this process's own command in so many processes, as torchrun does, and return the exit code."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # each process says what goes wrong
    try:
        with tempfile.TemporaryDirectory() as scratch:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=count,
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                max_restarts=0,
                logs_specs=DefaultLogsSpecs(scratch),  # else a folder is left behind
            )
            elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        asked = (distributed.SILENT, 128 + signal.SIGTERM, -signal.SIGTERM)  # the others end so
        said = [code for code in codes.values() if code > 0 and code not in asked]
        killed = [rank for rank, code in codes.items() if code < 0]
        if said or distributed.SILENT in codes.values():  # another one has said what it was
            return min(said or [1])
        if not killed:
            raise Terminated from None  # one of them was asked to end, by whom ever
        rank = min(killed, key=lambda one: codes[one] in asked)
        name = signal.Signals(-codes[rank]).name
        raise BloodcellError(f"process {rank} of {count} was killed ({name}); the others were ended") from None
    except SignalException as error:
        if error.sigval == signal.SIGTERM:
            raise Terminated from None
        return 130
    except KeyboardInterrupt:
        return 130
    return 0


def require(devices: int, machines: int) -> None:
    """See to it that as many processes are at work as are asked for.

    Args:
        devices: Of each machine.
        machines: How many.

    Raises:
        BloodcellError: There are more, or fewer.
    """
    place = distributed.here()
    if place.size == 1 and devices * machines > 1:
        raise BloodcellError(
            f"{devices} devices on {machines} machine(s) take as many processes, which the command line starts; "
            "here it is one: set trainer.devices=1"
        )
    if (place.local_size, place.size) != (devices, devices * machines):
        raise BloodcellError(
            f"{place.size} processes were started, {place.local_size} on each machine, but trainer.devices={devices} "
            f"and trainer.num_nodes={machines}; trainer=ddp takes the devices as they were started"
        )
