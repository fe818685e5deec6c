"""What a sample of the training images says: whether the net looks at the whole image, and how large its cell is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from bloodcell.data.cell_finder import locate
from bloodcell.data.cells import find_cells
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import Pixels, read_image
from bloodcell.data.one_cell import STAIN, find_cell
from bloodcell.data.samples import Samples
from bloodcell.runtime.console import say

#: Largest number of images in which the cell is looked for.
MOST = 96
#: The same for the size of the cells, some 15 ms an image. The median of other 24 differs by 3 % (Barcelona,
#: Chulalongkorn) or 8 % (Kaggle), as does that of other 96.
FEW = 24
#: Median distance of nucleus or cell from the centre, in sides of the image, above which images are fields. Cells that
#: are cut out had 0.02 and 0.08 (Barcelona, Chulalongkorn), the fields of the Kaggle set 0.23; a training prints it.
OFF_CENTRE = 0.12
#: Share of images with a cell below which the stain is not one that the finder knows.
FOUND = 0.9
#: The same for the size of the cells.
SIZED = 0.5


def chosen_crop(samples: Samples, finder: int = STAIN) -> str:
    """Return cell if the training images are fields in which the cell can be found, else none, and print why.

    `finder` is that of `Preprocessing`.
    """
    chosen, what = _sample(samples, MOST), "nucleus" if finder == STAIN else "cell"
    centres = ((image, _centre(image, finder)) for image in _readable(chosen, samples.white))
    distances = [off_centre(centre, image) for image, centre in centres if centre]
    found, middle = len(distances) / max(1, len(chosen)), median(distances or [0.0])
    crop = "cell" if found >= FOUND and middle > OFF_CENTRE else "none"
    reason = (
        f"a {what} is found in {found * 100:.0f} % of {len(chosen)} images"
        if found < FOUND
        else f"the {what} lies {middle * 100:.0f} % of the side off the centre, in the median of {len(chosen)} images"
    )
    say(f"data.crop=auto: {crop}, {'the square around the cell' if crop == 'cell' else 'the whole image'}; {reason}")
    return crop


def measured_extent(samples: Samples) -> float | None:
    """Return the shorter side of the training images in diameters of their largest cell, the median of a sample.

    None: a cell is found in fewer than half of them.
    """
    chosen = _sample(samples, FEW)
    found = ((image, find_cells(image)) for image in _readable(chosen, samples.white))
    sides = [min(image.shape[:2]) / max(cell.diameter for cell in cells) for image, cells in found if cells]
    return round(median(sides), 2) if sides and len(sides) >= SIZED * len(chosen) else None


def _sample(samples: Samples, most: int) -> list[str]:
    """Return at most `most` training images, evenly spread."""
    files = samples.of_split("train").paths()
    return files[:: max(1, -(-len(files) // most))]


def _readable(files: Sequence[str], white: float | None) -> Iterator[Pixels]:
    for file in files:
        try:
            yield read_image(file, white=white)
        except ImageError:
            continue  # the check of all images reports it


def _centre(image: Pixels, finder: int) -> tuple[float, float] | None:
    """Return the centre of the cell in an image, in pixels from its upper left corner."""
    if finder == STAIN:
        nucleus = locate(image)
        return (nucleus.x + 0.5, nucleus.y + 0.5) if nucleus else None
    cell = find_cell(image)
    return cell.centre if cell else None


def off_centre(centre: tuple[float, float], image: Pixels) -> float:
    """Return the distance of a point from the centre of its image, uint8 (H, W, 3), in sides of it: 0 to 0.5."""
    height, width = image.shape[:2]
    return float(max(abs(centre[0] / width - 0.5), abs(centre[1] / height - 0.5)))
