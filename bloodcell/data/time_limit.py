"""A time limit for each image: no Python code can stop a decoder or a net, so a command ends, and the page works on.

What is known to take long is refused before (`bloodcell.data.image_parts`); this is for what nobody knows yet.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread, get_ident

from bloodcell.runtime.console import complain

#: Seconds of a processor that one image may take: the slowest to decode that is allowed takes some 5.
SECONDS = 30.0

#: Thread -> its own time at the start of the work, and what it is.
_begun: dict[int, tuple[float, str]] = {}
_lock = Lock()  # a thread that has ended has no time that can be read

if hasattr(os, "register_at_fork"):  # a worker that is forked while another thread holds the lock would wait for ever

    def _in_child() -> None:
        _begun.clear()  # the other threads are not there
        _lock.release()

    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)


@contextmanager
def timed(work: str) -> Iterator[None]:
    """Measure work on one image in this thread, e.g. `a.png: decoding`."""
    with _lock:
        _begun[get_ident()] = time.thread_time(), work
    try:
        yield
    finally:
        with _lock:
            _begun.pop(get_ident(), None)


def too_slow() -> str | None:
    """Return the work that takes too long, in whatever thread, once; None: there is none."""
    with _lock:
        slow = [thread for thread, (start, _) in _begun.items() if _time_of(thread) - start > SECONDS]
        return _begun.pop(slow[0])[1] if slow else None


def _time_of(thread: int) -> float:
    """Return the processor's time of another thread, which a busy machine does not lengthen; 0 on Windows."""
    clock: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
    return time.clock_gettime(clock(thread)) if clock else 0.0


@functools.cache
def end_if_too_slow() -> None:
    """Watch all threads of this process from now on; end it, with one line, if an image takes too long."""
    watch_worker()


def watch_worker(_number: int = 0) -> None:
    """Do the same in a process that was forked, where the watching thread is not."""
    Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while (work := too_slow()) is None:
        time.sleep(1)
    complain(f"error: {work} takes longer than {SECONDS:g} seconds; remove this file, and start again")
    os._exit(1)
