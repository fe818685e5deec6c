"""How another microscope, lamp, camera or stain would show the same cells: colour, light and focus of a batch.

Each function takes float images (N, 3, H, W) of 0 to 1 and one number or row of numbers per image, and returns images
of 0 to 1; none draws a random number itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
