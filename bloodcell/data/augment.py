"""Random changes of a batch of training images; every number comes from torch's own generator."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn

from bloodcell.runtime.errors import BloodcellError


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
    """Moves, mirrors and recolours each image by its own numbers: what another microscope would change, no more.

    One affine sampling serves the whole batch. What leaves the frame is filled by reflection, so that no black
    corner tells an augmented image from a real one. The colours are changed as by another stain, lamp and camera; see
    the functions below.

    Args:
        rotation: Degrees, uniform in plus or minus.
        flip: Mirror half of the images.
        scale: Zoom by a factor uniform in 1 plus or minus this.
        shift: Of the image's side, uniform in plus or minus.
        stain: Factor of each stain's optical density uniform in 1 plus or minus this; a tenth of it, in optical
            density, is added to or taken from the whole field.
        white_balance: Factor of red, green and blue, each uniform in 1 plus or minus this.
        brightness: Factor uniform in 1 plus or minus this.
        contrast: Likewise, about the image's mean.
        gamma: Exponent uniform in 1 plus or minus this.
        blur: Width of the Gaussian, of the image's side, uniform from 0 to this.
    """

    def __init__(
        self,
        rotation: float = 0.0,
        flip: bool = False,
        scale: float = 0.0,
        shift: float = 0.0,
        stain: float = 0.0,
        white_balance: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        gamma: float = 0.0,
        blur: float = 0.0,
    ) -> None:
        super().__init__()
        factors = (scale, stain, white_balance, brightness, contrast, gamma)
        if min(rotation, shift, *factors, blur) < 0 or max(factors) >= 1 or blur > 0.1:
            raise BloodcellError("augment: values are 0 or more; the factors below 1, blur 0.1 at most")
        self.rotation, self.flip, self.scale, self.shift = rotation, flip, scale, shift
        self.stain, self.white_balance = stain, white_balance
        self.brightness, self.contrast, self.gamma, self.blur = brightness, contrast, gamma, blur

    def as_dict(self) -> dict[str, float]:
        """Return the plain values that make this augmentation what it is."""
        return {name: getattr(self, name) for name in inspect.signature(Augment).parameters}

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
        return self._recoloured(images, generator)

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

    def _recoloured(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        count, device = len(images), images.device

        def factors(limit: float, *shape: int) -> Tensor:
            drawn = _uniform(count * math.prod(shape), limit, device, generator)
            return 1 + drawn.view(count, *shape)

        if self.stain:
            images = stain(images, factors(self.stain, 3), factors(self.stain, 3).sub(1) / 10)
        if self.white_balance:
            images = white_balance(images, factors(self.white_balance, 3))
        if self.brightness or self.contrast or self.gamma:
            images = light(images, *map(factors, (self.brightness, self.contrast, self.gamma)))
        if self.blur:
            width = self.blur * images.shape[3] * torch.rand(count, device=device, generator=generator)
            images = blur(images, width)
        return images


def _uniform(count: int, limit: float, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw (count,) numbers uniform in plus or minus `limit`."""
    return (2 * torch.rand(count, device=device, generator=generator) - 1) * limit


#: Optical densities in red, green and blue of haematoxylin, eosin and what is left, unit rows.
#: Ruifrok and Johnston 2001, "Quantification of histochemical staining by color deconvolution".
_STAINS = nn.functional.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)


_DARKEST = 1 / 255  # the optical density of black is not infinite


def stain(images: Tensor, strength: Tensor, base: Tensor) -> Tensor:
    """Change how much of each stain there is, as staining time and dye would (Tellez et al. 2019, arXiv:1902.06543).

    Args:
        images: Float (N, 3, H, W).
        strength: (N, 3) factors of haematoxylin, eosin and the rest; 1 changes nothing.
        base: (N, 3) optical densities to add to them everywhere; 0 changes nothing.
    """
    stains = _STAINS.to(images.device)
    mixing = torch.linalg.inv(stains) @ (strength[:, :, None] * stains)  # unmix, scale and mix again in one product
    density = -images.clamp_min(_DARKEST).log().flatten(2)
    changed = torch.baddbmm((base @ stains)[:, :, None], mixing.transpose(1, 2), density)
    return (-changed).exp().clamp(0, 1).view_as(images)


def white_balance(images: Tensor, gains: Tensor) -> Tensor:
    """Multiply red, green and blue by gains (N, 3), as another lamp or camera would."""
    return (images * gains[:, :, None, None]).clamp(0, 1)


def light(images: Tensor, brightness: Tensor, contrast: Tensor, gamma: Tensor) -> Tensor:
    """Change brightness, contrast about each image's mean, and gamma by factors (N,); 1 changes nothing."""
    bright, spread, power = (factor[:, None, None, None] for factor in (brightness, contrast, gamma))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed = (((images - mean) * spread + mean) * bright).clamp(0, 1)
    return changed if bool((gamma == 1).all()) else changed.clamp_min(_DARKEST / 16) ** power


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by a Gaussian of its own width (N,) in pixels, as a focus slightly missed would."""
    count, channels, height, width = images.shape
    reach = min(max(1, int(torch.ceil(3 * sigma.max()))), min(height, width) - 1)
    steps = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-(steps**2) / (2 * sigma.clamp_min(1e-3)[:, None] ** 2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    planes = images.reshape(1, count * channels, height, width)  # a convolution of its own for each plane
    for padding, shape in (((reach, reach, 0, 0), (1, len(steps))), ((0, 0, reach, reach), (len(steps), 1))):
        padded = nn.functional.pad(planes, padding, mode="reflect")
        planes = nn.functional.conv2d(padded, kernels.view(-1, 1, *shape), groups=count * channels)
    return planes.view_as(images).clamp(0, 1)  # rounding may pass 1 by the last digit
