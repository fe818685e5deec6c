"""The cells of a corrections file as pictures of one cell each: those of fields and whole slides are cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from bloodcell.data.cells import Cell
from bloodcell.data.confirmed_cells import confirmed, is_class
from bloodcell.data.corrections import Box, Decision, read_corrections
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import Pixels, read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples, samples_table
from bloodcell.data.whole_slides import is_whole_slide, opened
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.errors import BloodcellError

#: Side of the square that is read of a whole slide around a cell, in diameters of the cell.
AROUND = 6.0


@dataclass(frozen=True)
class LabelledCell:
    """A cell whose class humans agree on."""

    path: str  # of the picture, as in the corrections file
    label: str
    box: Box | None  # in the picture; None: the picture shows this one cell


def labelled_cells_of(file: Path) -> list[LabelledCell]:
    """Return the cells of a corrections file whose class is known; a line counts the others.

    Raises:
        BloodcellError: The file is wrong, or has no such cell.
    """
    found = [cell for path, decisions in read_corrections(file).by_path().items() for cell in _of(path, decisions)]
    known = [cell for cell in found if is_class(cell.label)]
    if not known:
        raise BloodcellError(f"{file} has no cell with a class on which all readers agree; label some first")
    if others := len(found) - len(known):
        say(f"note: {file}: {counted(others, 'cell')} without a class on which all readers agree, left out")
    return known


def _of(path: str, decisions: list[Decision]) -> list[LabelledCell]:
    """Return the cells of a picture; two boxes are one cell's if one holds the centre of the other."""
    if not (given := [one.box for one in decisions if one.box is not None]):
        return [LabelledCell(path, confirmed(decisions, None).labels[0], None)]
    boxes: list[Box] = []
    for box in given:
        if not any(Cell(*other).holds(*Cell(*box).centre) for other in boxes):
            boxes.append(box)
    labels = confirmed(decisions, boxes).labels
    return [LabelledCell(path, label, box) for label, box in zip(labels, boxes, strict=True) if label]


def cut_out(cells: Sequence[LabelledCell], root: Path, preprocessing: Preprocessing, folder: Path) -> Samples:
    """Write a picture of each cell that has a box into a folder, and return all cells as samples.

    A cell is cut out as the reader sees it when it predicts the picture. The source of a cell that has a box is its
    picture; that of others is unknown.

    Args:
        cells: The cells.
        root: The folder that their paths are relative to.
        preprocessing: The reader's.
        folder: For the pictures; a new one.

    Raises:
        BloodcellError: A picture cannot be read.
    """
    rows, numbers = [], dict[str, int]()
    for cell in cells:
        if cell.box is None:
            rows.append((root / cell.path, cell.label, "train", ""))
            continue
        numbers[cell.path] = number = numbers.get(cell.path, 0) + 1
        file = folder / _inside(cell.path) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_picture(root / cell.path, Cell(*cell.box), preprocessing)).save(file)
        rows.append((file, cell.label, "train", cell.path))
    return samples_table(rows, folder)


def _inside(path: str) -> Path:
    """Return a path of the corrections file as one that stays in a folder."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return Path(*[part.replace(":", "_") for part in parts if part not in ("/", "..", ".")])


def _picture(file: Path, cell: Cell, preprocessing: Preprocessing) -> Pixels:
    """Return the square around a cell that the reader sees."""
    try:
        pixels = _around(file, cell) if is_whole_slide(file) else (read_image(file, white=preprocessing.white), cell)
    except ImageError as error:
        raise BloodcellError(f"{file}: {error}; say with data.root=DIR where the pictures are") from error
    return preprocessing.picture_of(*pixels)


def _around(file: Path, cell: Cell) -> tuple[Pixels, Cell]:
    """Return the part of a whole slide around a cell, and the cell in it."""
    left, top, side = map(round, cell.square(AROUND * cell.diameter))
    return opened(str(file)).read(0, left, top, side, side), Cell(
        cell.left - left, cell.top - top, cell.width, cell.height
    )
