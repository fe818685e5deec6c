"""Random changes of a batch of training images; every number comes from torch's own generator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bloodcell.errors import BloodcellError


def build_augment(augment: dict[str, Any]) -> nn.Module:
    """Build what an `augment` configuration describes; name `none` leaves the images as they are.

    Raises:
        BloodcellError: A value is unknown or senseless.
    """
    values = dict(augment)
    if values.pop("name") == "none":
        return nn.Identity()
    try:
        return Augment(**values)
    except TypeError as error:
        raise BloodcellError(f"augment: {error}") from error


class Augment(nn.Module):
    """Rotates, mirrors, scales, shifts, and changes brightness and contrast, each image by its own numbers.

    One affine sampling serves the whole batch. What leaves the frame is filled by reflection, so that no black
    corner tells an augmented image from a real one.

    Args:
        rotation: Degrees, uniform in plus or minus.
        flip: Mirror half of the images.
        scale: Zoom by a factor uniform in 1 plus or minus this.
        shift: Of the image's side, uniform in plus or minus.
        brightness: Factor uniform in 1 plus or minus this.
        contrast: Likewise, about the image's mean.
    """

    def __init__(
        self,
        rotation: float = 0.0,
        flip: bool = False,
        scale: float = 0.0,
        shift: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
    ) -> None:
        super().__init__()
        if min(rotation, scale, shift, brightness, contrast) < 0 or max(scale, brightness, contrast) >= 1:
            raise BloodcellError("augment: values are 0 or more; scale, brightness and contrast below 1")
        self.rotation, self.flip, self.scale, self.shift = rotation, flip, scale, shift
        self.brightness, self.contrast = brightness, contrast

    def as_dict(self) -> dict[str, float]:
        """Return the plain values that make this augmentation what it is."""
        names = ("rotation", "flip", "scale", "shift", "brightness", "contrast")
        return {name: getattr(self, name) for name in names}

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return float images (N, 3, H, W) of 0 to 1 from uint8 images of 0 to 255 or float ones of 0 to 1.

        Args:
            images: The images.
            generator: Where the random numbers come from; None: torch's global one.
        """
        if not images.is_floating_point():
            images = images.float() / 255
        grid = nn.functional.affine_grid(self._matrices(images, generator), list(images.shape), align_corners=False)
        images = nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        return self._light(images, generator)

    def _matrices(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw (N, 2, 3) maps from output to input positions, in units of half the image's sides."""
        count, device = len(images), images.device
        angle = _uniform(count, math.radians(self.rotation), device, generator)
        zoom = 1 / (1 + _uniform(count, self.scale, device, generator))
        mirror = 1 - 2 * (torch.rand(count, device=device, generator=generator) < 0.5).float() * float(self.flip)
        ratio = images.shape[3] / images.shape[2]
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        shift_x, shift_y = (2 * _uniform(count, self.shift, device, generator) for _ in range(2))
        rows = [cos * mirror, -sin / ratio * mirror, shift_x, sin * ratio, cos, shift_y]
        return torch.stack(rows, dim=1).view(count, 2, 3)

    def _light(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        shape = (len(images), 1, 1, 1)
        bright = 1 + _uniform(len(images), self.brightness, images.device, generator).view(shape)
        contrast = 1 + _uniform(len(images), self.contrast, images.device, generator).view(shape)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return (((images - mean) * contrast + mean) * bright).clamp(0, 1)


def _uniform(count: int, limit: float, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw (count,) numbers uniform in plus or minus `limit`."""
    return (2 * torch.rand(count, device=device, generator=generator) - 1) * limit
