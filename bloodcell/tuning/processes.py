"""Further processes at a study on this machine: each is the same command once more, and lives no longer than the first.

A helper imports what it needs, then waits for the word on its standard input, so that images are looked at and features
computed by the first process alone. The end of its input is the end of the first process.
"""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: In a helper's environment: how many processes share the cores.
MARK = "BLOODCELL_TUNE_WORKERS"
#: Seconds that a helper has to put its trial back.
GRACE = 10.0


def is_helper() -> bool:
    """Say whether this process is one."""
    return MARK in os.environ


def sharing(workers: int) -> int:
    """Return how many processes share the cores, this one included."""
    return int(os.environ.get(MARK, workers))


def start(count: int, folder: Path, workers: int) -> list[subprocess.Popen[str]]:
    """Start helpers, which wait for `go`.

    Args:
        count: How many.
        folder: The study's.
        workers: Processes that share the cores.
    """
    own = ("study=", "tune.workers=", "hydra.job.name=", "hydra.run.dir=")
    arguments = [item for item in sys.argv[1:] if not item.startswith(own)]
    quoted = str(folder.absolute()).replace("\\", "/").replace("'", "\\'")
    command = [sys.executable, "-m", "bloodcell", "tune", *arguments, f"study='{quoted}'", "tune.workers=1"]
    environment = {**os.environ, MARK: str(workers)}
    return [subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True) for _ in range(count)]


def go(helpers: list[subprocess.Popen[str]]) -> None:
    """Let the helpers begin."""
    for helper in helpers:
        assert helper.stdin is not None
        try:
            helper.stdin.write("go\n")
            helper.stdin.flush()
        except BrokenPipeError:  # it is dead already, and has said why; the others do its trials
            continue


@contextmanager
def ending(helpers: list[subprocess.Popen[str]]) -> Iterator[None]:
    """See to it that no helper is left, whatever happens: they finish with this process, or put their trials back."""
    try:
        yield
        for helper in helpers:
            helper.wait()
    finally:
        for helper in helpers:
            if helper.stdin is not None:
                helper.stdin.close()
        for helper in helpers:
            try:
                helper.wait(GRACE)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()


def wait_for_go() -> None:
    """In a helper: wait for the word, and end with the first process."""
    import pytorch_lightning  # noqa: F401 - what takes seconds, while the first process looks at the images

    if sys.stdin.readline() != "go\n":
        raise SystemExit(1)
    threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    sys.stdin.read()
    _thread.interrupt_main()  # the trial is put back
    time.sleep(GRACE)
    os._exit(1)
