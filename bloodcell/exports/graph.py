"""The exported graph: from pictures of any size to calibrated probabilities."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bloodcell.inference.exported.metadata import AXES, INPUT, OUTPUTS, UNLIKE
from bloodcell.models.net import Net
from bloodcell.models.ood import Limits

#: Bits of a resizing weight, and the largest shift that torch tries.
_BITS, _LARGEST_SHIFT = 15, 22


class Graph(nn.Module):
    """A classifier of uint8 `images` (N, H, W, 3), RGB, of any size, the same for all N.

    Its outputs are float32 `probabilities` (N, C), calibrated; `logits` (N, C), not calibrated; `features` (N, F), the
    input of the head; and, if the classifier has limits, bool `unlike` (N,): the image is unlike the training data.

    Args:
        net: The net; a copy is taken.
        size: Side of its input, pixels.
        limits: The classifier's out-of-distribution limits, if it has any.
    """

    centres: Tensor
    whitening: Tensor

    def __init__(self, net: Net, size: int, limits: Limits | None) -> None:
        super().__init__()
        self.net, self.size, self.temperature = copy.deepcopy(net).to("cpu"), size, net.temperature
        self.threshold = None if limits is None else limits.threshold
        if limits is not None:
            whitening = limits.whitening.astype(np.float64)
            self.register_buffer("whitening", torch.from_numpy(whitening))
            self.register_buffer("centres", torch.from_numpy(limits.means.astype(np.float64) @ whitening))
        self.eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        return OUTPUTS if self.threshold is None else (*OUTPUTS, UNLIKE)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, in the order of their names."""
        fits = (images.shape[1] == self.size) & (images.shape[2] == self.size)
        pixels: Tensor = torch.cond(fits, self._unchanged, self._resized, (images,))
        features = self.net.features(pixels.permute(0, 3, 1, 2))
        logits = self.net.head(features)
        probabilities = torch.softmax(logits.double() / self.temperature, dim=1).float()
        outputs = (probabilities, logits, features)
        return outputs if self.threshold is None else (*outputs, self._score(features) > self.threshold)

    def _unchanged(self, images: Tensor) -> Tensor:
        """Return a copy of images of the net's size: a branch of `torch.cond` may not return its input itself."""
        every = torch.arange(self.size)
        return images.index_select(1, every).index_select(2, every)

    def _resized(self, images: Tensor) -> Tensor:
        return resized(images, self.size)

    def _score(self, features: Tensor) -> Tensor:
        """Return the scores of `bloodcell.models.ood.score`, (N,)."""
        wide = features.double()
        unit = wide / wide.norm(dim=1, keepdim=True).clamp(min=1e-12)
        apart: Tensor = (unit @ self.whitening)[:, None] - self.centres
        return apart.square().sum(dim=2).amin(dim=1)


def resized(images: Tensor, size: int) -> Tensor:
    """Scale uint8 images (N, H, W, 3) to (N, size, size, 3), bit for bit as `bloodcell.data.preprocessing` does."""
    rows = images.permute(0, 3, 1, 2).double()
    weights, unit = resizing_weights(images.shape[2], size, axis=1)
    rows = _rounded(rows @ weights, unit)
    weights, unit = resizing_weights(images.shape[1], size)
    return _rounded(weights @ rows, unit).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def resizing_weights(inside: Any, size: int, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Return the weight of each input pixel in each output pixel when a line of pixels is scaled.

    torch scales uint8 images in integers: weights are rounded to multiples of 1 / 2^p, with the largest p for which
    they all fit into 16 bits (`compute_index_ranges_int16_weights` of ATen's UpSampleKernel.cpp). In float64 the same
    integers are exact, and so are their sums.

    Args:
        inside: Pixels of the line; a symbol while the graph is traced.
        size: Pixels of the scaled line.
        axis: That of the scaled line. ONNX Runtime before 1.26 cannot run a float64 product with a transposed matrix.

    Returns:
        Integers, float64 (size, inside), with axis=1 (inside, size), and the integer that stands for a weight of 1.
    """
    scale = torch.scalar_tensor(inside, dtype=torch.float64) / size
    support = scale.clamp(min=1.0)
    centre = (scale * (torch.arange(size, dtype=torch.float64) + 0.5)).unsqueeze(1 - axis)
    place = torch.arange(inside, dtype=torch.float64).unsqueeze(axis)
    first, last = (centre - support + 0.5).floor(), (centre + support + 0.5).floor()
    triangle = (1 - ((place - centre + 0.5) * (1 / support)).abs()).clamp(min=0)
    weights = torch.where((place >= first) & (place < last), triangle, 0.0)
    weights = weights / weights.sum(dim=1 - axis, keepdim=True)
    units = 2.0 ** torch.arange(1, _LARGEST_SHIFT + 1, dtype=torch.float64)
    fits = (0.5 + weights.amax(dim=(0, 1)) * units).floor() < 2**_BITS
    unit = torch.where(fits, units, 1.0).amax(dim=0)
    return (0.5 + weights * unit).floor(), unit


def _rounded(sums: Tensor, unit: Tensor) -> Tensor:
    """Return weighted sums of pixels as levels, 0 to 255."""
    return ((sums + unit / 2) / unit).floor().clamp(max=255)


def traced(graph: Graph) -> torch.export.ExportedProgram:
    """Return a graph as torch.export traces it, for any number, height and width of images."""
    example = torch.zeros(2, graph.size + 9, graph.size + 17, 3, dtype=torch.uint8)
    return torch.export.export(graph, (example,), dynamic_shapes=free_axes(), strict=False)


def free_axes() -> dict[str, dict[int, Any]]:
    """Return the axes of the input that have no fixed size, by their names."""
    return {INPUT: {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(AXES)}}
