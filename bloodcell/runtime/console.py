"""Printing to the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import rich

#: Text as it is: no colours for numbers, no line broken by us.
STYLE = {"highlight": False, "soft_wrap": True}

#: Names in a line, and how many are there if there are more.
MANY, FIRST = 30, 10

# rich's own console, because Lightning's progress bar uses it too
rich.reconfigure(**STYLE)
console = rich.get_console()


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


def say(line: str) -> None:
    """Print one line as it is: no markup, no control characters."""
    console.print(printable(line), markup=False)


@contextmanager
def muted() -> Iterator[None]:
    """Print only warnings and errors inside."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar named `what` if the output is a terminal; yield a function of the items done and of all."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, rate="")

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} a second" if speed else "")

        yield advance
