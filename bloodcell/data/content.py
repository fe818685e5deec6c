"""Files by their content: what is kept of an image belongs to its bytes, not to its name, folder or time.

A file is read once. The cache then knows it by number, size and times that the file system gives it, which stay with
a file that is renamed, and change when it is written.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bloodcell.data.threads import map_in_order
from bloodcell.runtime.console import progress
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.kept_table import KeptTable

#: Seconds that a file must be old to be known by its times: a file system's clock is coarse.
SETTLED = 2.0

#: The end of the identity of a file that cannot be read.
UNREADABLE = "|unreadable"

_known: dict[str, str] = {}  # status -> content, of this process


def content_ids(files: Sequence[str | Path], cache: Path | None = None) -> list[str]:
    """Return for each file 32 hexadecimal digits of its content; the path and `|unreadable` if it cannot be read.

    Args:
        files: The files.
        cache: The cache root, which keeps what was found; None: only this process does.
    """
    statuses = [_status(file) for file in files]
    unknown = {status for status in statuses if status} - _known.keys()
    kept = KeptTable(cache / "contents" / "files.db", ("content",)) if cache else None
    if kept and unknown:
        _known.update({status: content for status, (content,) in kept.read(unknown).items()})
        unknown -= _known.keys()
    of_status = dict(zip(statuses, files, strict=True))
    new = {status: of_status[status] for status in sorted(unknown)}
    fresh = {status: content for status, content in zip(new, _read(list(new.values())), strict=True) if content}
    settled = {status: content for status, content in fresh.items() if _is_settled(status)}
    _known.update(settled)
    if kept and settled:
        kept.add(settled.items())
    known = _known | fresh
    pairs = zip(statuses, files, strict=True)
    return [known.get(status) or f"{os.path.abspath(file)}{UNREADABLE}" for status, file in pairs]  # noqa: PTH100 - text


def _read(files: Sequence[str | Path]) -> Iterator[str]:
    """Yield the content of each file, empty if it cannot be read."""
    with progress("reading files") as advance:
        for done, content in enumerate(map_in_order(_content, files, cpu_count()), 1):
            advance(done, len(files))
            yield content


def _status(file: str | Path) -> str:
    """Return what the file system knows a regular file by, empty if there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - one call for each of many files
    except (OSError, ValueError):  # a ValueError if the name contains a zero byte
        return ""
    if not stat.S_ISREG(found.st_mode):  # a pipe or a device might never end
        return ""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _is_settled(status: str) -> bool:
    changed = max(map(int, status.split(":")[3:])) / 1e9
    return time.time() - changed > SETTLED


def _content(file: str | Path) -> str:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - pathlib doubles the time
            return hashlib.file_digest(opened, "sha256").hexdigest()[:32]
    except OSError:
        return ""
