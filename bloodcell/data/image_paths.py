"""Image files that a user names by folders, files and patterns, found one by one in a stable order."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from bloodcell.data.folders import is_image, visible_files
from bloodcell.data.whole_slides import may_be_whole_slide
from bloodcell.runtime.errors import BloodcellError

#: System errors of a path that does not exist or is not a folder.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def iter_image_paths(given: Iterable[str]) -> Iterator[str]:
    """Yield the paths of image files and whole slides without holding all of them in memory.

    Folders that cannot be read are yielded too, so that they are reported as bad images.

    Args:
        given: Folders, for all images at any depth; files with any ending; or patterns with `*`, `?`, `[...]`, and `**`
            for folders at any depth. A name that exists is not taken as a pattern.

    Raises:
        BloodcellError: A file or folder does not exist, or a pattern matches nothing.
    """
    for name in given:
        path = Path(name) if os.path.lexists(name) else Path(name).expanduser()
        if os.path.lexists(path):
            yield from _file_or_folder(path)
        elif glob.has_magic(str(path)):
            yield from _matches(path)
        else:
            raise BloodcellError(f"{_why_missing(path)}: images={name}; give a folder, a file or a pattern")


def iter_unread(given: Iterable[str]) -> Iterator[Path]:
    """Yield the files in the given folders that are no images by their ending, which `iter_image_paths` leaves out."""
    for folder in (Path(name).expanduser() for name in given):
        if folder.is_dir():
            yield from (file for file in visible_files(folder, []) if not _is_read(file))


def _is_read(file: Path) -> bool:
    return is_image(file) or may_be_whole_slide(file)


def base_of(given: list[str]) -> str:
    """Return the folder that paths in a table are relative to: the only one that is given, else ''."""
    if len(given) > 1:
        return ""
    folder = Path(given[0]) if os.path.lexists(given[0]) else Path(given[0]).expanduser()
    return str(folder) if folder.is_dir() else ""


def relative_to(path: str, base: str) -> str:
    """Return a path below the folder `base` without it, with / on every system; as it is if there is no such folder."""
    return os.path.relpath(path, base).replace(os.sep, "/") if base else path


def searched(given: str) -> tuple[Path, bool]:
    """Return the folder in which a given file, folder or pattern is looked for, and whether at any depth."""
    path = Path(given) if os.path.lexists(given) else Path(given).expanduser()
    if os.path.lexists(path):
        return (path, True) if path.is_dir() else (path.parent, False)
    return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts)), "**" in path.parts


def _why_missing(path: Path) -> str:
    try:
        os.lstat(path)
    except PermissionError:
        return "permission denied"
    except (OSError, ValueError):
        pass
    return "no such file or folder"


def _file_or_folder(path: Path) -> Iterator[str]:
    is_folder = os.path.isdir(path)  # noqa: PTH112 - never raises
    return _images_then_unreadable(path) if is_folder else iter([str(path)])


def _images_then_unreadable(folder: Path, pattern: Sequence[str] | None = None) -> Iterator[str]:
    """Yield the images in a folder that match a pattern, at any depth, then the folders that cannot be read.

    Unlike `glob`, it visits each folder once, so that loops of links end.
    """
    unreadable: list[Path] = []
    for file in filter(_is_read, visible_files(folder, unreadable)):
        if pattern is None or _fits(file.relative_to(folder).parts, pattern):
            yield str(file)
    yield from map(str, unreadable)


def _matches(pattern: Path) -> Iterator[str]:
    """Yield the images that match a pattern, and the unreadable folders in which it would have to search."""
    plain = list(takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    root, parts = Path(*plain), pattern.parts[len(plain) :]
    found: Iterator[str] = iter(())
    if "**" not in parts:
        found = (file for path in _at_one_depth(root, parts) for file in _file_or_folder(path))
    elif os.path.isdir(root):  # noqa: PTH112 - never raises
        found = _images_then_unreadable(root, parts)
    if (first := next(found, None)) is None:
        raise BloodcellError(f"images={pattern} matches no file; check upper and lower case, or give a folder")
    yield first
    yield from found


def _at_one_depth(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield the matches of a pattern without `**` as `glob` does, and the unreadable folders, which `glob` omits."""
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


def _names(folder: Path, part: str) -> list[str]:
    """Return the sorted names in a folder that match a part of a pattern; hidden ones only if it begins with a dot."""
    if not glob.has_magic(part):
        os.lstat(folder / part)
        return [part]
    with os.scandir(folder) as entries:
        names = sorted(fnmatch.filter((entry.name for entry in entries), part))
    return [name for name in names if part.startswith(".") or not name.startswith(".")]


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path's parts match a pattern's; `**` matches any number of parts, at the end at least one."""
    if not path or not pattern:
        return not path and not pattern
    if pattern[0] == "**":
        return len(pattern) == 1 or _fits(path, pattern[1:]) or _fits(path[1:], pattern)
    return fnmatch.fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])
