"""From an image to the net's input: the one evaluation pipeline, which travels in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bloodcell.data.cell_finder import cut, locate, placed
from bloodcell.data.images import read_image, to_rgb
from bloodcell.runtime.errors import BloodcellError


@dataclass(frozen=True)
class Preprocessing:
    """Turns any image into the net's input. The net itself normalises, so the input stays uint8.

    Args:
        image_size: Side of the net's input, pixels.
        crop: none: the whole image is squashed to the square. cell: the square around the white cell is taken; where
            none is found, the whole image.
        crop_size: Side of that square in diameters of the nucleus, so that magnification cancels.
    """

    image_size: int = 224
    crop: str = "none"
    crop_size: float = 2.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.crop not in ("none", "cell") or not 1 <= self.crop_size <= 10:
            raise BloodcellError(
                f"data.crop={self.crop}, data.crop_size={self.crop_size}; choose none or cell, and 1 to 10 diameters"
            )
        if not isinstance(self.image_size, int) or not 16 <= self.image_size <= 4096:
            raise BloodcellError(f"data.image_size={self.image_size}; give whole pixels from 16 to 4096")

    def __call__(self, image: str | Path | np.ndarray[Any, Any] | Image.Image) -> Tensor:
        """Return uint8 (3, size, size) of a file, an RGB array uint8 (H, W, 3), or a Pillow image."""
        return torch.from_numpy(self.pixels(image)).permute(2, 0, 1)

    def pixels(self, image: str | Path | np.ndarray[Any, Any] | Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return uint8 (size, size, 3) of an image as in `__call__`: bilinear with antialiasing."""
        return self.read(image)[0]

    @property
    def localises(self) -> bool:
        """Whether the cell is looked for."""
        return self.crop == "cell"

    def read(
        self, image: str | Path | np.ndarray[Any, Any] | Image.Image
    ) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str]:
        """Return the pixels as in `pixels`, and whether the cell was found in them: found, none, or '': not looked for.

        Where it is none, the pixels are those of the whole image.
        """
        ((pixels, square),) = self.taken([picture_of(image)])
        return pixels, self.word(square)

    def taken(
        self, pictures: Sequence[np.ndarray[Any, Any]]
    ) -> list[tuple[np.ndarray[Any, np.dtype[np.uint8]], tuple[int, int, int] | None]]:
        """Return the pixels as in `pixels`, and the `square` that they show, of each picture uint8 (H, W, 3)."""
        # one step after the other over all: the processor then keeps the code of each step in its cache
        squares = [self.square(picture) for picture in pictures]
        parts = (
            cut(picture, *square) if square else picture for picture, square in zip(pictures, squares, strict=True)
        )
        return [(_resized(part, self.image_size), square) for part, square in zip(parts, squares, strict=True)]

    def word(self, square: tuple[int, int, int] | None) -> str:
        """Say whether the cell was found in a picture of which this square is taken: found, none, or ''."""
        return ("found" if square else "none") if self.localises else ""

    def square(self, pixels: np.ndarray[Any, Any]) -> tuple[int, int, int] | None:
        """Return left, top and side, in pixels, of the square that is taken of a picture uint8 (H, W, 3).

        None: the whole picture is. The square may reach beyond a picture that is smaller than it.
        """
        cell = locate(pixels) if self.localises else None
        return placed(pixels, *cell.square(self.crop_size)) if cell else None

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values from which the same pipeline can be built."""
        return asdict(self)


def picture_of(image: str | Path | np.ndarray[Any, Any] | Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return uint8 (H, W, 3), upright, of a file, an RGB array uint8 (H, W, 3), or a Pillow image.

    Raises:
        ImageError: A file cannot be read.
        BloodcellError: An array is of another kind.
    """
    if isinstance(image, np.ndarray):
        return np.require(_checked(image), requirements=["C", "W"])  # torch wants writable memory
    return np.array(to_rgb(image)) if isinstance(image, Image.Image) else read_image(image)


def _resized(pixels: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Scale uint8 (H, W, 3) to a square, in integers like Pillow's, from which it differs by one level at most.

    It takes a quarter of Pillow's time, as long as torch sees that the channels come last: the axis of one goes first.
    """
    planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    with torch.inference_mode():
        scaled = nn.functional.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()


def _checked(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BloodcellError(f"an image array is uint8 (H, W, 3) RGB; this one is {image.dtype} {image.shape}")
    return image
