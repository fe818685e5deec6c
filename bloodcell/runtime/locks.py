"""Locks between processes; the system releases one however the process that holds it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bloodcell.runtime.errors import BloodcellError


@contextmanager
def locked(file: Path, message: str | None = None, remove: bool = False) -> Iterator[None]:
    """Hold a lock file in an existing folder, and delete it at the end if `remove` is set.

    Raises:
        BloodcellError: With the message, if another process holds it; without a message, wait for that process.
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
    """Return whether a process holds a lock file."""
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
