"""The slides that the pictures of a folder show."""

from __future__ import annotations

from pathlib import Path

from bloodcell.evaluation.differentials.slide_names import slides_of
from bloodcell.evaluation.reviews.folder_cells import Folder


def slides_in_folder(folder: Folder, expression: str | None) -> dict[str, str]:
    """Return the slide of each picture: the folder just below the given one, or what the expression finds.

    Raises:
        BloodcellError: The expression finds no slide in a path.
    """
    paths, own = list(folder.files), Path(folder.given[0]).resolve().name
    if expression is not None:
        return dict(zip(paths, slides_of(paths, Path(folder.base), expression), strict=True))
    return {path: path.split("/")[0] if folder.base and "/" in path else own for path in paths}
