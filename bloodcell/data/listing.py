"""Which files a user means by folders, files and patterns: found as they are asked for, in an order that stays."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from bloodcell.data.folders import image_files
from bloodcell.errors import BloodcellError


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
    """Yield the images below a folder, or the file that a path is."""
    yield from map(str, image_files(path)) if path.is_dir() else [str(path)]


def _matching(pattern: Path) -> Iterator[str]:
    """Yield what a pattern matches."""
    if "**" in pattern.parts:
        found = _at_any_depth(pattern)
    else:
        found = (file for path in sorted(glob.glob(str(pattern))) for file in _below(Path(path)))  # noqa: PTH207
    if (first := next(found, None)) is None:
        raise BloodcellError(f"images={pattern} matches no file; mind the letter case, or give a folder")
    yield first
    yield from found


def _at_any_depth(pattern: Path) -> Iterator[str]:
    """Yield the images that match a pattern with `**`; a folder is visited once, unlike by `glob`, so loops end."""
    plain = list(takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    rest = pattern.parts[len(plain) :]
    steps = [r"(?:.+/)?" if part == "**" else f"{_expression(part)}/" for part in rest[:-1]]
    last = ".+" if rest[-1] == "**" else _expression(rest[-1])
    expression, root = re.compile("".join([*steps, last]), re.DOTALL), Path(*plain)
    for file in image_files(root):
        if expression.fullmatch(file.relative_to(root).as_posix()):
            yield str(file)


def _expression(part: str) -> str:
    """Return the regular expression of one part of a pattern, which stays within its folder."""
    return fnmatch.translate(part).replace(r"\Z", "").replace(".*", "[^/]*")
