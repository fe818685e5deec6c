"""From an image to the net's input: the one evaluation pipeline, which travels in the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bloodcell.data.images import read_image, to_rgb
from bloodcell.errors import BloodcellError


@dataclass(frozen=True)
class Preprocessing:
    """Turns any image into the net's input. The net itself normalises, so the input stays uint8.

    Args:
        image_size: Side of the square that the whole image is squashed to, in pixels.
    """

    image_size: int = 224

    def __post_init__(self) -> None:
        """Check the size."""
        if not isinstance(self.image_size, int) or not 16 <= self.image_size <= 4096:
            raise BloodcellError(f"data.image_size={self.image_size}; give whole pixels from 16 to 4096")

    def __call__(self, image: str | Path | np.ndarray[Any, Any] | Image.Image) -> Tensor:
        """Return uint8 (3, size, size) of a file, an RGB array uint8 (H, W, 3), or a Pillow image."""
        return torch.from_numpy(self.pixels(image)).permute(2, 0, 1)

    def pixels(self, image: str | Path | np.ndarray[Any, Any] | Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return uint8 (size, size, 3) of an image as in `__call__`: bilinear with antialiasing, as Pillow does it."""
        if isinstance(image, Image.Image):
            pixels = to_rgb(image)
        elif isinstance(image, np.ndarray):
            pixels = Image.fromarray(_checked(image))
        else:
            pixels = Image.fromarray(read_image(image))
        side = (self.image_size, self.image_size)
        return np.array(pixels.resize(side, Image.Resampling.BILINEAR))

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values from which the same pipeline can be built."""
        return asdict(self)


def _checked(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BloodcellError(f"an image array is uint8 (H, W, 3) RGB; this one is {image.dtype} {image.shape}")
    return image
