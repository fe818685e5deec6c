"""Processes that work on one job: who is who, what one does for all, and how all end together.

Nothing here does anything until `start` has been called in several processes: one process alone has rank 0 of 1.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from bloodcell.runtime.errors import BloodcellError

Item = TypeVar("Item")

#: How long the first waits for the last to come, and how long one waits for what another does alone. A process that
#: ends is noticed at once; this is for one that hangs, or a machine that is gone.
MEETING, WAITING = timedelta(minutes=10), timedelta(hours=2)
#: Seconds in which a file that one process wrote is seen by the others.
NETWORK = 60

#: Seconds that a process waits for its own end when another has ended without a word.
GRACE = 5
#: The exit code of a process that ends without a word because another has.
SILENT = 3
ENDED = "another process of this job has ended, or cannot be reached any more"
#: What gloo, NCCL and the store say where the other side has ended.
_BROKEN = re.compile(
    r"gloo|NCCL|[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|[Tt]imed? ?out|recvValue|sendBytes"
)


class EndedError(BloodcellError):
    """Another process of the job has failed, and says why; this one ends without a word."""


class MissedError(BloodcellError):
    """The processes of the job did not meet, so that none knows of another's failure."""


@dataclass(frozen=True)
class Place:
    """What a process knows of its job.

    Attributes:
        rank: Its number among all, from 0.
        size: How many there are.
        local_rank: Its number on its machine, from 0.
        local_size: How many there are on its machine.
        sharing: How many have the same processor cores.
        group: Through which they exchange objects.
        store: Through which they tell each other of a failure.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    sharing: int = 1
    group: Any = None
    store: Any = None


_here = Place()


def here() -> Place:
    """Return this process's place in the job that has been started; within `once` rank 0 of 1."""
    return _here


def announced() -> Place | None:
    """Return the place that torchrun or srun gives this process; None: it was started alone.

    A script of SLURM's is no process of a job by itself, though it sees most of the same variables; what srun starts
    has the number of the step.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if all(name in os.environ for name in names):
        rank, size, local = (int(os.environ[name]) for name in names)
        return Place(rank, size, local, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    slurm = ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    if not all(name in os.environ for name in slurm) or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    rank, size, local = (int(os.environ[name]) for name in slurm[1:])
    machines = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", 1)))
    return Place(rank, size, local, size // machines)


def start() -> None:
    """Meet the other processes, where torchrun or srun started several; all but the first fall silent.

    Raises:
        BloodcellError: They do not come.
    """
    place = announced()
    if place is None or place.size == 1 or _here.size > 1:
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what is wrong comes as an exception
    import torch
    from torch import distributed

    _name(place)
    try:
        # each kind of device has its backend, so that Lightning finds the group made
        distributed.init_process_group(timeout=MEETING)
        group = distributed.new_group(backend="gloo", timeout=WAITING)
    except (RuntimeError, ValueError) as error:
        raise MissedError(
            f"process {place.rank} of {place.size} has not met the others at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']} ({' '.join(str(error).split())[:200]}); have all been started?"
        ) from error
    store = distributed.distributed_c10d._get_default_store()
    _enter(replace(place, group=group, store=store))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    _enter(replace(_here, sharing=gather(mine := (socket.gethostname(), cores)).count(mine)))
    from bloodcell.runtime.hardware import cpu_count

    torch.set_num_threads(cpu_count())  # torchrun allows each process one, however many cores there are
    if place.rank:
        _fall_silent()


def stop() -> None:
    """Part from the other processes, when all have come to the end."""
    if _here.size > 1:
        from torch import distributed

        barrier()
        distributed.destroy_process_group()
        _enter(Place())


def leave(code: int) -> None:
    """End this process of several where they did not all come to the end; nothing where it is alone.

    Python's own way would end in an abort now and then, by the threads of connections that nobody closed.
    """
    if _here.size > 1:
        _wait_for_the_others(code)
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _wait_for_the_others(code: int) -> None:
    """Give all that end at the same time a moment to learn who was the first: its process holds what they ask.

    Whoever is silent waits until the first has said why: the end of one is the end of all.
    """
    deadline, store = time.monotonic() + GRACE, _here.store
    try:
        if code != SILENT:
            store.set("said", "")
        store.add("leaving", 1)
        while code == SILENT and not store.check(["said"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        while _here.rank == 0 and store.add("leaving", 0) < _here.size and time.monotonic() < deadline:
            time.sleep(0.05)
    except RuntimeError:  # it is gone
        pass


def _enter(place: Place) -> None:
    global _here
    _here = place


def _name(place: Place) -> None:
    """Give torch, and Lightning after it, the names that torchrun gives, where srun has started the processes."""
    if "RANK" in os.environ:
        return
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    cluster = SLURMEnvironment(auto_requeue=False)
    os.environ |= {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_size),
        "MASTER_ADDR": cluster.main_address,
        "MASTER_PORT": str(cluster.main_port),
    }


def _fall_silent() -> None:
    import warnings

    from bloodcell.runtime.console import console

    console.quiet = True
    warnings.simplefilter("ignore")


@contextmanager
def _alone() -> Iterator[None]:
    place = _here
    _enter(Place())
    try:
        yield
    finally:
        _enter(place)


def once(function: Callable[[], Item]) -> Item:
    """Return what a function returns, called by the first process alone: within it there are no others.

    Every process calls this at the same point of its way; what is returned can be pickled. It fails in all where it
    fails in the first.
    """
    if _here.size == 1:
        return function()
    result, failure = None, None
    if _here.rank == 0:
        try:
            with _alone():
                result = function()
        except BaseException as error:  # noqa: BLE001 - the others wait, whatever it is
            failure = error
    held = [result, failure is not None]
    with _noticing():
        from torch import distributed

        distributed.broadcast_object_list(held, src=0, group=_here.group)
    if failure is not None:
        raise failure
    if held[1]:
        raise EndedError("the first process of this job has failed")
    return held[0]  # type: ignore[return-value]


def gather(mine: Item) -> list[Item]:
    """Return what each process gives, in the order of their ranks; in every process."""
    if _here.size == 1:
        return [mine]
    from torch import distributed

    found: list[Any] = [None] * _here.size
    with _noticing():
        distributed.all_gather_object(found, mine, group=_here.group)
    return found


def barrier() -> None:
    """Wait until every process is here."""
    gather(None)


def share(items: list[Item]) -> list[Item]:
    """Return this process's share of items: every size-th."""
    return items[_here.rank :: _here.size]


def in_turn(mine: Iterator[Item]) -> Iterator[Item]:
    """Yield what all processes make of some items, in the items' order, in every process.

    Args:
        mine: What this one makes of its `share` of the items, none of it None; taken as it is needed, so that no more
            than one of each process is held.
    """
    if _here.size == 1:
        yield from mine
        return
    while (found := gather(next(mine, None)))[0] is not None:  # the first has as many as any other
        yield from (one for one in found if one is not None)


def until(condition: Callable[[], bool]) -> bool:
    """Wait until a condition is fulfilled, and say whether it is; network file systems show what is new with delay."""
    deadline = time.monotonic() + (NETWORK if _here.size > 1 else 0)
    while not (fulfilled := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return fulfilled


def is_first_to_fail(error: BaseException) -> bool:
    """Say whether no other process has failed before this one, which then says what went wrong."""
    if _here.store is None:
        place = announced()  # all fail alike before they have met
        return place is None or place.rank == 0 or isinstance(error, MissedError)
    if is_broken(error):
        try:
            time.sleep(GRACE)  # whoever started the processes knows which one was killed, and ends the others
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGTERM) from None  # not in silence about another's word: there is none
    try:
        if (first := _here.store.add("failures", 1) == 1) and not is_broken(error):
            _here.store.set("failure", f"process {_here.rank}: {error}")
    except RuntimeError:  # the store was in the first process, which is gone
        return True
    return bool(first)


def is_broken(error: BaseException) -> bool:
    """Say whether an error is but the end of another process."""
    ended = isinstance(error, RuntimeError) and _BROKEN.search(str(error)) is not None
    return _here.size > 1 and (ended or isinstance(error, EndedError))


def cause_of(error: BaseException) -> str:
    """Return the message of an error, or of that of another process which led to it."""
    if not is_broken(error):
        return str(error)
    try:
        if _here.store.check(["failure"]):
            return str(_here.store.get("failure").decode())
    except RuntimeError:
        pass
    return ENDED


@contextmanager
def _noticing() -> Iterator[None]:
    """Turn what is raised where another process has ended into `EndedError`."""
    try:
        yield
    except RuntimeError as error:
        if not is_broken(error):
            raise
        raise EndedError(ENDED) from error
