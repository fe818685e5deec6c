"""Printing: lines, and what goes on meanwhile, on a terminal, in a notebook or into a log."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from threading import Event, RLock, Thread
from typing import Any, Protocol

import rich
from rich.cells import cell_len

#: Names in a line, and how many are there if there are more.
MANY, FIRST = 30, 10

#: Seconds until a step is named if the output is no terminal; each further line comes after twice the time before it.
SILENCE, RARELY = 4.0, 60.0

# Text as it is: no colours for numbers, no pictures for :words:, no line broken inside a word. Anything else that uses
# rich prints in the same place. A notebook gets the lines of a log: neither a box of HTML for each, nor a bar, although
# its kernel claims to be a terminal.
_shown = {"force_jupyter": False, "force_terminal": False} if rich.get_console().is_jupyter else {}
rich.reconfigure(highlight=False, soft_wrap=True, emoji=False, **_shown)
console = rich.get_console()

_mute = False
#: When the last line was printed, in seconds of the monotonic clock.
_said = 0.0
#: Held while a bar comes or goes, so that no other thread prints into it then.
_drawing = RLock()


class Advance(Protocol):
    """Takes the number of items done by this process, of all that it has to do, and a new name for what it does."""

    def __call__(self, done: int, total: int | None, what: str | None = None) -> None:
        """Show these numbers."""


def printable(text: str) -> str:
    """Return a text with control characters escaped: names of files and classes may hold some."""
    return re.sub(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", lambda found: repr(found[0])[1:-1], text)


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts: 1 image, 1,200 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(names: Iterable[str]) -> str:
    """Return names with commas; of more than `MANY`, the first `FIRST` and the number of the others."""
    every = list(names)
    return ", ".join(every if len(every) <= MANY else [*every[:FIRST], f"and {len(every) - FIRST:,} more"])


def wrapped(text: str, width: int) -> str:
    """Return a text with its lines broken at blanks to some columns; a longer word, as of a path, stays whole."""
    lines: list[str] = []
    for line in text.split("\n"):
        first, *words = line.split(" ")
        lines.append(first)
        for word in words:
            if cell_len(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
    return "\n".join(lines)


def say(line: str, whole: bool = False) -> None:
    """Print a line: no markup, no control characters, on a terminal broken between words unless `whole`."""
    global _said
    if not _mute:
        text, _said = printable(line), time.monotonic()
        console.print(text if whole or not console.is_terminal else wrapped(text, console.width), markup=False)


def complain(line: str, whole: bool = False) -> None:
    """Print a warning or an error to standard error, as `say` does; any thread may."""
    text = printable(line)
    with _drawing:
        print(text if whole or not sys.stderr.isatty() else wrapped(text, console.width), file=sys.stderr, flush=True)


@contextmanager
def muted() -> Iterator[None]:
    """Print only warnings and errors inside, and go on with the progress that is shown already."""
    global _mute
    before, _mute = _mute, True
    try:
        yield
    finally:
        _mute = before


@contextmanager
def others_muted() -> Iterator[None]:
    """Hide what libraries print; lines and progress of this program still appear."""
    console.file = console.file  # the present one, whatever `sys.stdout` is meanwhile
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        console.file = None  # type: ignore[assignment]  # rich's own default: what `sys.stdout` is at the time


@contextmanager
def progress(what: str, silence: float = SILENCE) -> Iterator[Advance]:
    """Show what goes on while the block runs, until it ends.

    On a terminal that is a bar, which vanishes; elsewhere a line after some seconds in which no line was printed
    (`silence`), and then more and more rarely. Rate and remaining time follow from the last half minute of this
    process's own work.

    Yields:
        A function to call with the number of items done and of all.
    """
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class State(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(state_of(task))

    shown = console.is_terminal and not _mute
    columns = [TextColumn("{task.description:.24}", markup=False), BarColumn(8), State(Column(no_wrap=True))]
    bar = Progress(*columns, console=console, transient=True, disable=not shown)
    number = bar.add_task(what, total=None)
    task = bar.tasks[0]

    def advance(done: int, total: int | None, what: str | None = None) -> None:
        task.total = total
        if what not in (None, task.description):
            bar.reset(number, description=what)  # with a rate of its own
        bar.update(number, completed=done)

    try:
        with _drawing:
            bar.start()
        with _in_lines(task, silence if not shown else None):
            yield advance
    finally:
        with _drawing:
            bar.stop()


@contextmanager
def _in_lines(task: Any, silence: float | None) -> Iterator[None]:
    """Print lines on a task of rich's now and then while the block runs; None: do not."""
    over = Event()

    def watch(wait: float) -> None:
        while not over.wait(wait):
            if time.monotonic() - _said < wait:
                continue  # other lines show that it goes on
            numbers = f" {state_of(task)}" if task.elapsed > 1 else ""
            say(f"{task.description} ...{numbers}")
            wait = min(max(2 * wait, SILENCE), RARELY)

    watcher = Thread(target=watch, args=(silence,), daemon=True)
    if silence is not None and not _mute:
        watcher.start()
    try:
        yield
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()


def state_of(task: Any) -> str:
    """Return the numbers of a task of rich's: items done, rate and remaining time; the time so far if they are unknown.

    For example `340 of 1,200, 45 a second, 19 s left`.
    """
    done = [] if task.total is None else [f"{int(task.completed):,} of {int(task.total):,}"]
    if not task.speed or task.time_remaining is None:
        return ", ".join([*done, duration(task.elapsed or 0)])
    rate = f"{task.speed:,.0f} a second" if task.speed >= 10 else f"{task.speed:.2g} a second"
    return ", ".join([*done, rate, f"{duration(task.time_remaining)} left"])


def duration(seconds: float) -> str:
    """Return a time in its unit: 19 s, 4 min, 2.5 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            number = seconds / size
            return f"{number:.1f} {unit}" if unit == "h" and number < 10 else f"{number:.0f} {unit}"
    return f"{seconds:.0f} s"
