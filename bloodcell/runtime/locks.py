"""Locks between processes; the system releases one however the process that holds it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bloodcell.runtime.errors import BloodcellError


@contextmanager
def locked(file: Path, message: str | None = None, remove: bool = False) -> Iterator[None]:
    """Hold a lock file.

    Args:
        file: The lock file; its folder exists.
        message: The error if another process holds it; None: wait for that process.
        remove: Delete the file at the end.

    Raises:
        BloodcellError: Another process holds it, and there is a message.
    """
    lock = FileLock(file, timeout=0 if message else -1)
    try:
        lock.acquire()
    except Timeout as error:
        raise BloodcellError(message) from error
    try:
        yield
    finally:
        lock.release()
        if remove:
            file.unlink(missing_ok=True)


def is_locked(file: Path) -> bool:
    """Return whether some process holds a lock file now."""
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
