"""Ctrl+C and SIGTERM are acknowledged at once and raise an exception, so that files being written are completed."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any, NoReturn

from bloodcell.runtime import distributed
from bloodcell.runtime.console import complain

_saying, _said = Lock(), False


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, e.g. from a scheduler, a container or `kill`."""


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside, and say at once that a signal came; only the main thread may enter."""
    before = raise_on_sigterm()
    try:
        with _acknowledging():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
        atexit.unregister(_ignore_signals)
        atexit.register(_ignore_signals)  # registered last, called first: before torch's own functions


def raise_on_sigterm(*_: Any) -> Any:
    """Let SIGTERM raise `Terminated` from now on; return the previous handler."""
    return signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def _acknowledging() -> Iterator[None]:
    """Say that a signal came while the main thread, which alone runs Python's handlers, is still in foreign code.

    C's handler writes each signal's number into a pipe, from which another thread reads it.
    """
    global _said
    _said = False
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = Thread(target=_watch, args=(reader,), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join(1)


def _watch(reader: int) -> None:
    with suppress(OSError):
        while numbers := os.read(reader, 64):
            if {signal.SIGINT, signal.SIGTERM} & set(numbers):
                acknowledge()
    os.close(reader)


def acknowledge() -> None:
    """Say once that the process stops; one of several of a job leaves that to the one that started them."""
    global _said
    with _saying:
        if not _said and distributed.announced() is None:
            complain("stopping ...")
        _said = True


def _unwatched() -> None:
    """In a forked process: its signals are none of the first one's, with which it shares the pipe."""
    signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unwatched)


def _terminate(number: int, frame: Any) -> NoReturn:
    raise Terminated


def _ignore_signals() -> None:
    """Ignore signals while the interpreter shuts down, which takes a while: the work is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def ending_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """Return how a process ended in one word, and the shell's exit code: 128 plus the signal."""
    return ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise interruptions of Lightning's `fit`, which turns them into `SystemExit(1)` and disables Ctrl+C."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else Terminated from None
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
