"""Locks between processes; the system releases one however the process that holds it ends."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bloodcell.runtime.errors import BloodcellError


@contextmanager
def locked(file: Path, message: str | None = None, remove: bool = False) -> Iterator[None]:
    """Hold a lock file in an existing folder, and delete it at the end if `remove` is set.

    Raises:
        BloodcellError: With the message, if another process holds it; without a message, wait for that process. Or it
            is a link, behind which a file may be of any use.
    """
    if file.is_symlink():
        raise BloodcellError(f"{file} is a link, and no lock of this program; remove it")
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


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Mark a folder as in use, if it can be written; see `users`."""
    mark = folder / f".use-{uuid.uuid4().hex}"
    with ExitStack() as marked:
        with suppress(OSError), locked(folder / ".use.lock"):
            marked.enter_context(locked(mark, remove=True))
        yield


def users(folder: Path) -> int:
    """Return the number of processes that use a folder, and remove the marks of killed ones; `.use.lock` is held."""
    marks = list(folder.glob(".use-*"))
    for mark in marks:
        if not is_locked(mark):
            mark.unlink(missing_ok=True)
    return sum(mark.exists() for mark in marks)


def is_locked(file: Path) -> bool:
    """Return whether a process holds a lock file; true of a link, which is no lock."""
    if file.is_symlink() or not file.is_file():
        return file.is_symlink()
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
