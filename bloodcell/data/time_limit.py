"""A time limit for each image: no Python code can stop a decoder, so a command ends, and the page works on without it.

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

#: Seconds of a processor that decoding one image may take: the slowest image that is allowed takes some 5.
SECONDS = 30.0

#: Thread -> its own time at the start of the image, and the image's name.
_begun: dict[int, tuple[float, str]] = {}
_lock = Lock()  # a thread that has ended has no time that can be read

if hasattr(os, "register_at_fork"):  # a worker that is forked while another thread holds the lock would wait for ever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Measure the decoding of an image in this thread."""
    with _lock:
        _begun[get_ident()] = time.thread_time(), name
    try:
        yield
    finally:
        with _lock:
            _begun.pop(get_ident(), None)


def too_slow() -> str | None:
    """Return the name of an image whose decoding takes too long, in whatever thread, once; None: there is none."""
    with _lock:
        slow = [thread for thread, (start, _) in _begun.items() if _time_of(thread) - start > SECONDS]
        return _begun.pop(slow[0])[1] if slow else None


def _time_of(thread: int) -> float:
    """Return the processor's time of another thread, which a busy machine does not lengthen; 0 on Windows."""
    clock: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
    return time.clock_gettime(clock(thread)) if clock else 0.0


@functools.cache
def end_if_too_slow() -> None:
    """Watch all threads from now on; end the process, with one line, if decoding an image takes too long."""
    Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while (name := too_slow()) is None:
        time.sleep(1)
    complain(f"error: {name}: decoding takes longer than {SECONDS:g} seconds; remove this file, and start again")
    os._exit(1)
