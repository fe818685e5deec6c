"""A command that another program started, and that ends with it, however that program ends.

The program keeps the command's standard input open and writes nothing to it. As soon as the program is gone, even if it
was killed, that input ends: the one sign of it that every system gives.
"""

from __future__ import annotations

import os
import signal
import time
from threading import Thread

#: Set in the environment of such a command.
NAME = "BLOODCELL_ENDS_WITH_PARENT"
#: Seconds that the command has to end by itself.
PATIENCE = 30.0


def environment() -> dict[str, str]:
    """Return the environment for a command that is to end with this process; give it a pipe as standard input, too."""
    return {**os.environ, NAME: "1"}


def end_with_parent() -> None:
    """If the environment asks for it, end this process like by SIGTERM as soon as its standard input ends."""
    if os.environ.pop(NAME, None):  # what this process starts has other inputs
        Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(128 + signal.SIGTERM)
