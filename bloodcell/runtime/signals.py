"""Ctrl+C and SIGTERM both raise an exception, so that whatever is being written is completed."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """The process was sent SIGTERM, as a scheduler, a container or `kill` do."""


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in the main thread, which has to enter this context."""
    before = raise_on_sigterm()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        atexit.unregister(_ignore_signals)
        atexit.register(_ignore_signals)  # last registered, first called: before all that torch does at the end


def raise_on_sigterm(*_: Any) -> Any:
    """Let SIGTERM raise `Terminated` from now on, and return the handler until now."""
    return signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> NoReturn:
    raise Terminated


def _ignore_signals() -> None:
    """Let no signal disturb the end of the interpreter, which takes a while: the work is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def ending_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """Return how a process ended in one word, and the exit code that shells use for it: 128 plus the signal."""
    return ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an interruption of Lightning's `fit` through.

    Lightning turns it into `SystemExit(1)`, as if training had failed, and leaves Ctrl+C without effect.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else Terminated from None
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
