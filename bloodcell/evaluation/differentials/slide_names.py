"""The pictures of slides, and the slide of each: its folder, or what an expression finds; a slide file is its own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bloodcell.data.folders import endings_of
from bloodcell.data.image_paths import iter_image_paths, iter_unread, relative_to
from bloodcell.data.whole_slides import is_whole_slide
from bloodcell.evaluation.run import read_table
from bloodcell.runtime.console import progress
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest


@dataclass(frozen=True)
class Slides:
    """The pictures of the slides."""

    root: Path
    of_path: Mapping[str, str]  # path below the root, as tables have it -> slide
    whole: Collection[str] = ()  # the paths that are whole-slide files
    by_folder: bool = True  # whether a slide is a folder, not what an expression finds

    def fields(self, bad: Path) -> dict[str, int]:
        """Return the number of pictures of each slide, without those that a table lists as bad."""
        unread = set(read_table(bad)["path"]) if bad.is_file() else set()
        numbers = dict.fromkeys(self.of_path.values(), 0)
        for path, slide in self.of_path.items():
            numbers[slide] += path not in unread
        return numbers

    def of_several_folders(self) -> list[str]:
        """Return the slides that are a folder with pictures in several folders, which may be slides themselves."""
        folders: dict[str, set[str]] = {}
        for path, slide in self.of_path.items() if self.by_folder else ():
            folders.setdefault(slide, set()).add(path.rpartition("/")[0])
        return [f"{slide} ({len(found):,} folders)" for slide, found in folders.items() if len(found) > 1]

    def copies(self) -> list[str]:
        """Return the paths of pictures that are, byte by byte, others of the same slide which stand before them."""
        seen: set[tuple[str, int, str]] = set()
        sizes = {path: _size(self.root / path) for path in self.of_path}
        alike = Counter((slide, sizes[path]) for path, slide in self.of_path.items())
        found = []
        for path, slide in self.of_path.items():
            if sizes[path] and alike[slide, sizes[path]] > 1:
                one = slide, sizes[path], file_digest(self.root / path)
                found += [path] if one in seen else []
                seen.add(one)
        return found


def slides_in(images: object, expression: str | None) -> Slides:
    """Return the pictures of the slides in a folder.

    Raises:
        BloodcellError: There is no such folder or no picture in it, or it is unclear what a slide is.
    """
    if images is None:
        raise BloodcellError("images is not set; give the folder of the slides with images=FOLDER")
    root = Path(str(images)).expanduser()
    if not root.is_dir():
        raise BloodcellError(f"images={images} is no folder; give the folder of the slides, each a folder in it")
    with progress("looking for images"):
        paths = [relative_to(path, str(root)) for path in iter_image_paths([str(root)])]
    if not paths:
        others = endings_of(iter_unread([str(root)])) or "no file"
        raise BloodcellError(f"no image in images={images}, but {others}; give the folder of the slides")
    written = [path.encode(errors="backslashreplace").decode() for path in paths]
    whole = {path for path in paths if is_whole_slide(root / path)}
    of_path = dict(zip(written, slides_of(paths, root, expression, whole), strict=True))
    return Slides(root, of_path, whole, by_folder=expression is None)


def _size(file: Path) -> int:
    """Return the bytes of a file; 0 if it is none that can be read."""
    return file.stat().st_size if file.is_file() and os.access(file, os.R_OK) else 0


def slides_of(
    paths: Sequence[str], folder: Path, expression: str | None = None, whole: Collection[str] = ()
) -> list[str]:
    """Return the slide of each picture.

    Args:
        paths: Paths below the folder, with /.
        folder: The folder of all slides; pictures that all lie in it are of one slide, which has its name.
        expression: A regular expression with one group, which finds the slide in a path; None: a slide is a folder just
            below `folder`.
        whole: The paths that are whole-slide files, each of which is a slide with its name unless there is an
            expression.

    Raises:
        BloodcellError: Some pictures lie beside folders of pictures, or the expression finds no slide in a path.
    """
    if expression is not None:
        return _found(paths, expression)
    if whole:
        pictures = [path for path in paths if path not in whole]
        others = iter(slides_of(pictures, folder)) if pictures else iter(())
        return [path if path in whole else next(others) for path in paths]
    beside = [path for path in paths if "/" not in path]
    if beside and len(beside) < len(paths):
        raise BloodcellError(
            f"which slides does {folder} have? {beside[0]} lies beside folders of pictures; move the pictures of each "
            "slide into a folder of its own, or say what a slide is with slide_regex='(...)'"
        )
    return [folder.resolve().name or str(folder)] * len(paths) if beside else [path.split("/")[0] for path in paths]


def _found(paths: Sequence[str], expression: str) -> list[str]:
    matches = [re.search(expression, path) for path in paths]
    slides = [(match[1] or "") if match else "" for match in matches]
    if missing := [path for path, slide in zip(paths, slides, strict=True) if not slide]:
        raise BloodcellError(
            f"slide_regex={expression} finds no slide in {len(missing):,} of {len(paths):,} paths, e.g. {missing[0]}"
        )
    return slides
