"""Several processes of one job: their ranks, what they exchange, and which one reports a failure.

A process has rank 0 of 1 until it calls `start` as one of several that torchrun, srun or the launcher started.
"""

from __future__ import annotations

import atexit
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from bloodcell.runtime.errors import BloodcellError

Item = TypeVar("Item")

#: How long processes wait for the last one to start, and for what one does alone. The end of a process is noticed at
#: once; these limits are for a process that hangs or a machine that is gone.
MEETING, WAITING = timedelta(minutes=10), timedelta(hours=2)
#: Seconds until all processes see a new file.
NETWORK = 60
#: Seconds that a process waits to be ended after another one has failed.
GRACE = 5
#: torchrun's name for a job whose processes this program started itself.
OWN = "bloodcell"
#: Name of a daemon thread in foreign code, which may crash if the interpreter ends around it.
UNSTOPPABLE = "unstoppable"
#: Messages of gloo, NCCL and torch's store about a lost process, and ours.
_LOST = re.compile(r"gloo|NCCL|TCPStore|[Cc]onnection|[Bb]roken pipe|[Tt]imed? ?out|recvValue|sendBytes")
LOST = "another process of this job has ended, or cannot be reached any more"


@dataclass(frozen=True)
class Place:
    """A process's place in its job."""

    rank: int = 0  # among all processes
    size: int = 1
    local_rank: int = 0  # among the processes of its machine
    local_size: int = 1
    sharing: int = 1  # number of processes on the same processor cores
    group: Any = None  # torch's process group for objects
    store: Any = None  # torch's, for the cause of a failure


_here = Place()


def here() -> Place:
    """Return this process's place in the job that has been started; rank 0 of 1 inside `once`."""
    return _here


def _enter(place: Place) -> None:
    global _here
    _here = place


def announced() -> Place | None:
    """Return the place that torchrun or srun gives this process; None if it was started alone."""
    env = os.environ
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= env.keys():
        rank, size, local = (int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return Place(rank, size, local, int(env.get("LOCAL_WORLD_SIZE", size)))
    # a batch script sees most of srun's variables too, but not the number of a step
    if "SLURM_STEP_ID" not in env or env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    rank, size, local = (int(env[f"SLURM_{name}"]) for name in ("PROCID", "NTASKS", "LOCALID"))
    return Place(rank, size, local, size // int(env.get("SLURM_STEP_NUM_NODES", env.get("SLURM_NNODES", 1))))


def start() -> None:
    """Connect to the other processes, if torchrun or srun started several; all but the first print nothing.

    Raises:
        BloodcellError: They do not connect.
    """
    place = announced()
    if place is None or place.size == 1 or _here.size > 1:
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # errors also raise exceptions
    from torch import distributed

    _set_torchrun_variables(place)
    _enter(place)
    try:
        distributed.init_process_group(timeout=MEETING)  # a backend for each kind of device; Lightning uses this group
        group = distributed.new_group(backend="gloo", timeout=WAITING)
    except (RuntimeError, ValueError) as error:
        raise BloodcellError(
            f"process {place.rank} of {place.size} has not met the others at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']} ({' '.join(str(error).split())[:200]}); have all been started?"
        ) from error
    _enter(replace(place, group=group, store=distributed.distributed_c10d._get_default_store()))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    _enter(replace(_here, sharing=gather(mine := (socket.gethostname(), cores)).count(mine)))
    if place.rank:
        from bloodcell.runtime.console import console

        console.quiet = True
        warnings.simplefilter("ignore")


def _set_torchrun_variables(place: Place) -> None:
    """Set torchrun's variables for torch and Lightning, if srun started the processes."""
    if "RANK" in os.environ:
        return
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    cluster = SLURMEnvironment(auto_requeue=False)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (place.rank, place.size, place.local_rank, place.local_size, cluster.main_address, cluster.main_port)
    os.environ |= {name: str(value) for name, value in zip(names, values, strict=True)}


def stop() -> None:
    """Disconnect from the other processes when all have finished."""
    if _here.size > 1:
        from torch import distributed

        barrier()
        distributed.destroy_process_group()
        _enter(Place())


def leave(error: BaseException) -> None:
    """End this process at once with an error's traceback or exit code, if it is one of several or left work behind.

    Python's own exit may abort because of open connections, and closing them may wait for the other processes. It also
    waits for every thread, which may be decoding a large image.
    """
    if _here.size > 1 or _threads_at_work(1):
        if not isinstance(error, SystemExit):
            sys.excepthook(type(error), error, error.__traceback__)
        _flush()
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def end() -> None:
    """End this process, whose work is done, at once: Python's own exit takes a second to free what torch holds."""
    try:
        _flush()
    except OSError:  # Python's own exit reports it
        return
    os._exit(0)


def _flush() -> None:
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


def _threads_at_work(seconds: float) -> bool:
    """Return whether threads that Python's exit waits for, or that must not see it, still work after some seconds."""
    end = time.monotonic() + seconds
    others = [one for one in threading.enumerate() if one is not threading.current_thread()]
    awaited = [one for one in others if not one.daemon or one.name == UNSTOPPABLE]
    for thread in awaited:
        thread.join(max(0.0, end - time.monotonic()))
    return any(thread.is_alive() for thread in awaited)


def once(function: Callable[[], Item]) -> Item:
    """Call a function in the first process alone and return its result, which is pickled, in all.

    All processes call this at the same point.
    """
    if (place := _here).size == 1:
        return function()
    from torch import distributed

    held: list[Any] = [None]
    if place.rank == 0:
        _enter(Place())
        try:
            held = [function()]
        finally:
            _enter(place)
    distributed.broadcast_object_list(held, src=0, group=place.group)
    result: Item = held[0]
    return result


def gather(mine: Item) -> list[Item]:
    """Return in all processes what each one gives, by rank."""
    if _here.size == 1:
        return [mine]
    from torch import distributed

    found: list[Any] = [None] * _here.size
    distributed.all_gather_object(found, mine, group=_here.group)
    return found


def barrier() -> None:
    """Wait for every process."""
    gather(None)


def share(items: list[Item]) -> list[Item]:
    """Return this process's share of items: every size-th."""
    return items[_here.rank :: _here.size]


def in_turn(mine: Iterator[Item]) -> Iterator[Item]:
    """Yield the results of all processes in the order of the items that they `share`, in every process.

    `mine` yields this process's results, none of them None; each process holds one result at a time in memory.
    """
    while (found := gather(next(mine, None)))[0] is not None:  # no process has more than the first
        yield from (one for one in found if one is not None)


def until(condition: Callable[[], bool]) -> bool:
    """Return whether a condition is met in time; network file systems show new files late."""
    deadline = time.monotonic() + (NETWORK if _here.size > 1 else 0)
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return met


def lost_another(error: BaseException) -> bool:
    """Return whether an error only says that another process has ended."""
    return _here.size > 1 and isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def cause_of(error: BaseException) -> str:
    """Return an error's message; in several processes "process RANK: MESSAGE" of the first that failed."""
    cause = LOST if lost_another(error) else str(error)
    if _here.store is None:
        return cause
    mine = f"process {_here.rank}: {cause}" if isinstance(error, Exception) else ""
    try:
        return str(_here.store.compare_set("cause", "", mine).decode())
    except RuntimeError:  # the store ended with the first process
        return cause


def reports(error: BaseException) -> bool:
    """Return whether this process prints the error that ends it: the first of its job to fail does.

    The launcher then ends the others and reports the signal that ended one, so all others wait for that.
    """
    place = announced()
    if place is None or place.size == 1:
        return True
    if isinstance(error, KeyboardInterrupt):  # all get the signal
        return False
    if _here.store is None:  # before they meet, all fail alike, unless they do not meet
        return place.rank == 0 or _here.size > 1
    if lost_another(error):
        time.sleep(GRACE)
    if cause_of(error).startswith(f"process {_here.rank}: "):
        return True
    time.sleep(GRACE)
    return False
