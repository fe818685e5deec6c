"""Which files a user means by folders, files and patterns: found as they are asked for, in an order that stays."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from bloodcell.data.folders import image_files
from bloodcell.runtime.errors import BloodcellError


def listed(given: Iterable[str]) -> Iterator[str]:
    """Yield image files, no more than a folder's names in memory.

    Args:
        given: Folders, whose images at any depth are meant; files, whatever their endings; or patterns of either, with
            `*`, `?`, `[...]`, and `**` for folders at any depth. A name that is there is no pattern.

    Raises:
        BloodcellError: Something is not there, or a pattern matches nothing.
    """
    for one in given:
        path = Path(one) if os.path.lexists(one) else Path(one).expanduser()
        if os.path.lexists(path):
            yield from _below(path)
        elif glob.has_magic(str(path)):
            yield from _matching(path)
        else:
            raise BloodcellError(f"{_lack(path)}: images={one}; give a folder, a file or a pattern")


def _lack(path: Path) -> str:
    """Say why a path is not there."""
    try:
        os.lstat(path)
    except PermissionError:
        return "permission denied"
    except (OSError, ValueError):
        pass
    return "no such file or folder"


def _below(path: Path) -> Iterator[str]:
    """Yield the images below a folder and then the folders that cannot be read, or the file that a path is."""
    if not os.path.isdir(path):  # noqa: PTH112 - raises nothing where it may not look
        yield str(path)
        return
    unread: list[Path] = []
    yield from map(str, image_files(path, unread))
    yield from map(str, unread)


def _matching(pattern: Path) -> Iterator[str]:
    """Yield what a pattern matches, and the folders that cannot be read where it would have to look."""
    plain = list(takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    root, parts = Path(*plain), pattern.parts[len(plain) :]
    if "**" in parts:
        found = _at_any_depth(root, parts)
    else:
        found = (file for path in _at_one_depth(root, parts) for file in _below(path))
    if (first := next(found, None)) is None:
        raise BloodcellError(f"images={pattern} matches no file; mind the letter case, or give a folder")
    yield first
    yield from found


def _at_one_depth(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield what matches the parts of a pattern in a folder, as `glob` does, which is silent of unreadable folders."""
    if not parts:
        yield folder
        return
    try:
        names = _names(folder, parts[0])
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            yield folder
        return
    for name in names:
        yield from _at_one_depth(folder / name, parts[1:])


#: What the system says of a path that is not there or no folder.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _names(folder: Path, part: str) -> list[str]:
    """Return the names in a folder that match a part of a pattern, sorted; hidden ones where it begins with a dot."""
    if not glob.has_magic(part):
        os.lstat(folder / part)
        return [part]
    with os.scandir(folder) as entries:
        names = sorted(fnmatch.filter((entry.name for entry in entries), part))
    return [name for name in names if part.startswith(".") or not name.startswith(".")]


def _at_any_depth(root: Path, parts: Sequence[str]) -> Iterator[str]:
    """Yield the images that match a pattern with `**`; a folder is visited once, unlike by `glob`, so loops end."""
    if not os.path.isdir(root):  # noqa: PTH112 - as above
        return
    unread: list[Path] = []
    for file in image_files(root, unread):
        if _fits(file.relative_to(root).parts, parts):
            yield str(file)
    yield from map(str, unread)


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Say whether the parts of a path match those of a pattern, `**` any number of them, at its end one at least."""
    if not path or not pattern:
        return not path and not pattern
    if pattern[0] == "**":
        return len(pattern) == 1 or _fits(path, pattern[1:]) or _fits(path[1:], pattern)
    return fnmatch.fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])
