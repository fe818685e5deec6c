"""Ctrl+C and SIGTERM both raise an exception, so that files being written are completed."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, e.g. from a scheduler, a container or `kill`."""


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside; only the main thread may enter."""
    before = raise_on_sigterm()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        atexit.unregister(_ignore_signals)
        atexit.register(_ignore_signals)  # registered last, called first: before torch's own functions


def raise_on_sigterm(*_: Any) -> Any:
    """Let SIGTERM raise `Terminated` from now on; return the previous handler."""
    return signal.signal(signal.SIGTERM, _terminate)


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
