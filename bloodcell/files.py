"""Writing files in one step: a reader, or a run that was killed, sees the old file or the new one, never a part."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd


def write_atomically(file: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `file`, then put it in its place."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left half-written in a folder that no other process writes in now.

    Args:
        folder: The folder; nothing below it.
        name: Of the files that were to be written; a pattern.
    """
    for left in folder.glob(f".{name}.*"):
        if left.suffix[1:].isdecimal():
            left.unlink(missing_ok=True)


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table as CSV, with Unix line ends on every system."""
    write_atomically(file, lambda temporary: table.to_csv(temporary, index=False, lineterminator="\n"))


def write_json(values: Any, file: Path) -> None:
    """Write plain values as JSON."""
    text = json.dumps(values, indent=2) + "\n"
    write_atomically(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def file_digest(file: Path) -> str:
    """Return a file's SHA-256, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_checkpoint(content: dict[str, Any], file: Path) -> None:
    """Write what `torch.save` makes of a checkpoint.

    It is whole in memory first: torch's own writer does not say why it fails where the disk is full.

    Raises:
        OSError: The disk is full, or cannot be written.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(file, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
