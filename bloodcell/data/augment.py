"""Random changes of a batch of training images on any device; all random numbers come from torch.

Nothing here makes the processor wait for a GPU: no number is read from it, and none copied to it that it must wait for.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import AugmentConfig

#: Optical density of haematoxylin, eosin and the residual in red, green and blue, unit rows.
#: Ruifrok and Johnston 2001, "Quantification of histochemical staining by color deconvolution".
_STAINS = nn.functional.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)

_UNMIXED = torch.linalg.inv(_STAINS)

_DARKEST = 1 / 255  # or the optical density of black would be infinite


def build_augment(augment: dict[str, Any]) -> nn.Module:
    """Return the augmentation of an `augment` configuration; the name `none` gives the identity.

    Raises:
        BloodcellError: A key is unknown or a value is out of range.
    """
    if augment["name"] == "none":
        return nn.Identity()
    try:
        return Augment(AugmentConfig(**augment))
    except TypeError as error:
        raise BloodcellError(f"augment: {error}") from error


class Augment(nn.Module):
    """Moves, mirrors and recolours each image of a batch by its own random numbers.

    The changes are those of another microscope, stain, lamp or camera. Pixels from outside the image are filled by
    reflection, so that no black corner marks an augmented image.
    """

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config

    def as_dict(self) -> dict[str, float]:
        """Return the largest changes as plain values."""
        return {name: value for name, value in asdict(self.config).items() if name != "name"}

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return augmented images, float (N, 3, H, W), 0 to 1, of images, uint8 (N, 3, H, W), or float, 0 to 1.

        Without a generator the numbers come from torch's global one.
        """
        if not images.is_floating_point():
            images = images.float() / 255
        grid = nn.functional.affine_grid(self._matrices(images, generator), list(images.shape), align_corners=False)
        images = nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        return self._recoloured(images, generator)

    def _matrices(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw affine maps from output to input positions, (N, 2, 3), in units of half the image's sides."""
        count, config = len(images), self.config
        angle = _uniform(images, math.radians(config.rotation), generator)
        zoom = 1 / (1 + _uniform(images, config.scale, generator))
        mirror = 1 - 2 * float(config.flip) * (_uniform(images, 1, generator) < 0).float()
        ratio = images.shape[3] / images.shape[2]
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        shift_x, shift_y = (2 * _uniform(images, config.shift, generator) for _ in range(2))
        rows = [cos * mirror, -sin / ratio * mirror, shift_x, sin * ratio, cos, shift_y]
        return torch.stack(rows, dim=1).view(count, 2, 3)

    def _recoloured(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        config = self.config

        def factors(limit: float, *shape: int) -> Tensor:
            return 1 + _uniform(images, limit, generator, *shape)

        if config.stain:
            images = stain(images, factors(config.stain, 3), factors(config.stain, 3).sub(1) / 10)
        if config.white_balance:
            images = white_balance(images, factors(config.white_balance, 3))
        if config.brightness or config.contrast or config.gamma:
            bright, spread, power = map(factors, (config.brightness, config.contrast, config.gamma))
            images = light(images, bright, spread, power if config.gamma else None)
        if config.blur:
            width = torch.rand(len(images), generator=generator)  # on the CPU: the kernel's size follows from it
            images = blur(images, config.blur * images.shape[3] * width)
        return images


def _uniform(images: Tensor, limit: float, generator: torch.Generator | None, *shape: int) -> Tensor:
    """Draw numbers for each image, (N, *shape), uniform from -limit to limit."""
    return (2 * torch.rand(len(images), *shape, device=images.device, generator=generator) - 1) * limit


def stain(images: Tensor, strength: Tensor, base: Tensor) -> Tensor:
    """Change the amount of each stain, as another staining time or dye would (Tellez et al. 2019, arXiv:1902.06543).

    Args:
        images: Float (N, 3, H, W), 0 to 1.
        strength: (N, 3) factors of haematoxylin, eosin and the residual; 1 changes nothing.
        base: (N, 3) optical densities to add to them in the whole image; 0 changes nothing.
    """
    stains, unmixed = (matrix.to(images.device, non_blocking=True) for matrix in (_STAINS, _UNMIXED))
    mixing = unmixed @ (strength[:, :, None] * stains)  # unmix, scale and mix again
    density = -images.clamp_min(_DARKEST).log().flatten(2)
    changed = torch.baddbmm((base @ stains)[:, :, None], mixing.transpose(1, 2), density)
    return (-changed).exp().clamp(0, 1).view_as(images)


def white_balance(images: Tensor, gains: Tensor) -> Tensor:
    """Multiply red, green and blue by gains (N, 3), as another lamp or camera would."""
    return (images * gains[:, :, None, None]).clamp(0, 1)


def light(images: Tensor, brightness: Tensor, contrast: Tensor, gamma: Tensor | None = None) -> Tensor:
    """Multiply brightness, contrast (about each image's mean) and gamma by factors (N,); 1 changes nothing."""
    bright, spread = (factor[:, None, None, None] for factor in (brightness, contrast))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed = (((images - mean) * spread + mean) * bright).clamp(0, 1)
    return changed if gamma is None else changed.clamp_min(_DARKEST / 16) ** gamma[:, None, None, None]


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by a Gaussian of its own width (N,) in pixels, as a slightly wrong focus would.

    Widths on the CPU keep a GPU from waiting for the kernel's size.
    """
    count, channels, height, width = images.shape
    reach = min(max(1, int(torch.ceil(3 * sigma.max()))), min(height, width) - 1)
    steps, sigma = torch.arange(-reach, reach + 1, device=images.device), sigma.to(images.device, non_blocking=True)
    kernels = torch.exp(-(steps**2) / (2 * sigma.clamp_min(1e-3)[:, None] ** 2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    planes = images.reshape(1, count * channels, height, width)  # one convolution per plane
    for padding, shape in (((reach, reach, 0, 0), (1, len(steps))), ((0, 0, reach, reach), (len(steps), 1))):
        padded = nn.functional.pad(planes, padding, mode="reflect")
        planes = nn.functional.conv2d(padded, kernels.view(-1, 1, *shape), groups=count * channels)
    return planes.view_as(images).clamp(0, 1)  # rounding errors may exceed 1
