"""Which slide a picture is of: its folder, or what a regular expression finds in its path; a whole slide is its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from bloodcell.runtime.errors import BloodcellError


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
