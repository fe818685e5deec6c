"""The reader: the classifier that the package brings, for whoever names no checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError

#: A checkpoint in half precision; `bloodcell export format=reader` writes it.
FILE = Path(__file__).with_name("reader.ckpt")
#: Its data and their licences, its figures, and what it is not for.
CARD = FILE.with_suffix(".md")


def named_or_reader(checkpoint: Any) -> Any:
    """Return what `checkpoint` names; if it is None, the reader, and a line says so.

    Raises:
        BloodcellError: The package has no reader.
    """
    if checkpoint is not None:
        return checkpoint
    if not FILE.is_file():
        raise BloodcellError(
            f"checkpoint is not set, and the package's own reader, {FILE}, is not there; install the package anew, or "
            "give a run folder, or a .ckpt or exported file, with checkpoint=..."
        )
    say(f"no checkpoint is named, so the package's own reader answers; its data and figures: {CARD}")
    return str(FILE)
