"""The evaluation pipeline from an image to the net's input; its settings are stored in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bloodcell.data.cell_finder import cut, locate, whole_square
from bloodcell.data.cells import CELL, Cell
from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import Pixels, read_image, rgb_of
from bloodcell.data.one_cell import BOX, NET, STAIN, find_cell
from bloodcell.runtime.errors import BloodcellError

ImageLike = str | Path | NDArray[Any] | Image.Image
Square = tuple[int, int, int]  # left, top and side, pixels

#: Side of the square around a cell of a field in diameters of the cell, if that of the training images is unknown.
EXTENT = 2.0


@dataclass(frozen=True)
class Preprocessing:
    """Turns any image into the net's input, uint8; the net itself normalises.

    Args:
        image_size: Side of the net's input, pixels, 16 to 4096.
        crop: none: the whole image is resized to the square. cell: the square around the white cell is cut out; if no
            cell is found, the whole image is used.
        crop_size: Side of that square in diameters of the nucleus, 1 to 10, so that magnification has no effect; the
            net's box around the cell is taken for `BOX` nuclei.
        white: The least white of files with more than 8 bits that declare none; see `bloodcell.data.value_range`. None:
            each file's own.
        extent: Shorter side of the training images in diameters of their cell, above 0: a cell of a field is seen in a
            square of this size, as the net has learnt it, if `crop` is none, and pictures with much smaller cells are
            taken for fields. None: unknown, and `EXTENT` is taken.
        finder: What finds the cell: 1: the stain of its nucleus, as in older checkpoints. 2: a small net.
    """

    image_size: int = 224
    crop: str = "none"
    crop_size: float = 2.0
    white: float | None = None
    extent: float | None = None
    finder: int = STAIN

    def __post_init__(self) -> None:
        """Check the values."""
        if self.crop not in ("none", "cell") or not 1 <= self.crop_size <= 10:
            raise BloodcellError(
                f"data.crop={self.crop}, data.crop_size={self.crop_size}; choose none or cell, and 1 to 10 diameters"
            )
        if not isinstance(self.image_size, int) or not 16 <= self.image_size <= 4096:
            raise BloodcellError(f"data.image_size={self.image_size}; give whole pixels from 16 to 4096")
        if self.extent is not None and not 0 < self.extent <= 1000:
            raise BloodcellError(f"extent={self.extent} is no size of training images; the checkpoint is damaged")
        if self.finder not in (STAIN, NET):
            raise BloodcellError(f"finder={self.finder} of cells is not known here; a newer release has it")

    @property
    def crops_cell(self) -> bool:
        """Whether the square around the cell is cut out."""
        return self.crop == "cell"

    @property
    def cells_wide(self) -> float:
        """Side of the square around a cell in diameters of the cell."""
        if not self.crops_cell:
            return self.extent or EXTENT
        return self.crop_size / (CELL if self.finder == STAIN else BOX)

    def __call__(self, image: ImageLike) -> Tensor:
        """Return uint8 (3, size, size) for a file, an RGB array uint8 (H, W, 3) or a Pillow image."""
        return torch.from_numpy(self.pixels(image)).permute(2, 0, 1)

    def pixels(self, image: ImageLike) -> Pixels:
        """Return the same as `__call__` as uint8 (size, size, 3)."""
        return self.prepare([named_array(image, self.white)])[0][0]

    def prepare(self, images: Sequence[Pixels]) -> list[tuple[Pixels, Square | None]]:
        """Return for each image, uint8 (H, W, 3), the net's input, uint8 (size, size, 3), and its `square`."""
        # one step at a time over all images: the code of each step stays in the processor's cache
        squares = [self.square(image) for image in images]
        parts = (cut(image, *square) if square else image for image, square in zip(images, squares, strict=True))
        return [(_resize(part, self.image_size), square) for part, square in zip(parts, squares, strict=True)]

    def cell_status(self, square: Square | None) -> str:
        """Return whether a cell was found, given an image's `square`: found, none, or '' if none was looked for."""
        return ("found" if square else "none") if self.crops_cell else ""

    def square(self, image: Pixels) -> Square | None:
        """Return the square around the cell that is cut out of an image, uint8 (H, W, 3).

        It extends beyond an image that is smaller than it. None means that the whole image is used.
        """
        if not self.crops_cell:
            return None
        if self.finder == STAIN:
            nucleus = locate(image)
            return whole_square(image, *nucleus.square(self.crop_size)) if nucleus else None
        cell = find_cell(image)
        return self.square_around(image, cell) if cell else None

    def cut_cells(self, image: Pixels, cells: Sequence[Cell]) -> list[tuple[Pixels, Square]]:
        """Return the net's input and the square for each of several cells in an image, uint8 (H, W, 3)."""
        squares = [self.square_around(image, cell) for cell in cells]
        return [(_resize(cut(image, *square), self.image_size), square) for square in squares]

    def picture_of(self, image: Pixels, cell: Cell) -> Pixels:
        """Return a picture of one of several cells, uint8 (side, side, 3), from which the net gets what it gets of it.

        If the cell is looked for, it is the square in which `square_around` looks for the nucleus; the net that finds
        one cell finds it there again, its centre within a tenth of its diameter for the most part.
        """
        side = 2 * cell.diameter if self.crops_cell else (self.extent or EXTENT) * cell.diameter
        return cut(image, *whole_square(image, *cell.square(side)))

    def square_around(self, image: Pixels, cell: Cell) -> Square:
        """Return the square around one of several cells that shows it as the training images show theirs."""
        if self.crops_cell and self.finder == STAIN:
            left, top, side = whole_square(image, *cell.square(2 * cell.diameter))
            nucleus = locate(cut(image, left, top, side))
            if nucleus and cell.holds(left + nucleus.x, top + nucleus.y):  # else it is a neighbour's
                x, y, length = nucleus.square(self.crop_size)
                return whole_square(image, left + x, top + y, length)
        return whole_square(image, *cell.square(self.cells_wide * cell.diameter))

    def as_dict(self) -> dict[str, Any]:
        """Return the arguments of an equal pipeline as plain values."""
        unset = ("white", None), ("extent", None), ("finder", STAIN)  # older checkpoints, and keys of them, have none
        return {name: value for name, value in asdict(self).items() if (name, value) not in unset}

    def of_whole_images(self) -> Preprocessing:
        """Return what the input for a whole image depends on; equal pipelines share their work."""
        return replace(self, extent=None)


def as_array(image: ImageLike, white: float | None = None) -> Pixels:
    """Return an upright array, uint8 (H, W, 3), from a file, an RGB array uint8 (H, W, 3) or a Pillow image.

    `white` is that of `read_image`.

    Raises:
        ImageError: A file cannot be read.
        BloodcellError: An array has another shape or type.
    """
    if not isinstance(image, np.ndarray):
        return rgb_of(image) if isinstance(image, Image.Image) else read_image(image, white=white)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BloodcellError(f"an image array is uint8 (H, W, 3) RGB; this one is {image.dtype} {image.shape}")
    return np.require(image, requirements=["C", "W"])  # torch needs writable memory


def named_array(file: ImageLike, white: float | None = None) -> Pixels:
    """Return the same as `as_array`; the message of an ImageError names the file."""
    try:
        return as_array(file, white)
    except ImageError as error:
        raise ImageError(f"{file}: {error}") from error


def _resize(image: Pixels, size: int) -> Pixels:
    """Resize uint8 (H, W, 3) to a square, bilinear with antialiasing, at most one level from Pillow's result.

    It takes a quarter of Pillow's time if torch can see that the memory is channels-last: the batch axis must be added
    before the permutation.
    """
    planes = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    with torch.inference_mode():
        scaled = nn.functional.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()
