"""The network: normalisation, backbone, pooling and head."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bloodcell.models.backbones import build_backbone
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import ModelConfig

#: `model.head.pool` -> the pooling of the feature map.
POOLS = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


class Net(nn.Module):
    """A backbone with a new head.

    Attributes:
        temperature: Calibrates probabilities; logits are not calibrated.
    """

    mean: Tensor
    std: Tensor
    blurring: Tensor | None
    temperature = 1.0

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__()
        self.name, self.blur = model.name, model.blur
        self.register_buffer("mean", torch.tensor(model.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(model.std).view(3, 1, 1), persistent=False)
        blurring = blur_matrix(model.image_size, model.blur * model.image_size) if model.blur else None
        self.register_buffer("blurring", blurring, persistent=False)
        self.backbone = build_backbone(model.name, model.library, model.weights, model.width, model.image_size)
        for module in self.backbone.modules():
            if type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and max(module.stride) > 1:
                module.__class__ = StridedDepthwise
        self.pool = nn.Sequential(POOLS[model.head.pool](1), nn.Flatten())
        self.width = self._feature_width(model.image_size)
        self.head = build_head(self.width, classes, model.head.hidden, model.head.dropout)
        self.to(memory_format=torch.channels_last)  # convolutions are faster with the channels innermost

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images: (N, 3, H, W), RGB, uint8 of 0 to 255 or float of 0 to 1."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features (N, C) of images as in `forward`."""
        pooled: Tensor = self.pool(self.feature_map(images))
        return pooled

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the backbone's last map (N, C, h, w) of images as in `forward`, blurred if the net does not learn."""
        if not images.is_floating_point():
            images = images.to(self.mean.dtype) / 255
        if self.blurring is not None and not self.training:
            images = self.blurring @ images @ self.blurring.T
        found: Tensor = self.backbone((images - self.mean) / self.std)
        return found

    @torch.no_grad()
    def _feature_width(self, size: int) -> int:
        """Measure the number of channels on a blank image, in evaluation mode so that no statistic moves."""
        try:
            with evaluation_mode(self.backbone):
                return int(self.backbone(torch.zeros(1, 3, size, size)).shape[1])
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:160]
            raise BloodcellError(f"the model does not take images of model.image_size={size}: {reason}") from error


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put a net into evaluation mode, then each of its modules back into its own mode."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def blur_matrix(side: int, sigma: float) -> Tensor:
    """Return the matrix M (side, side) that blurs a square image X by a Gaussian, as M X M^T, mirrored at its borders.

    `sigma` is in pixels, above 0 and at most a tenth of the side.
    """
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    places = (torch.arange(side)[:, None] + steps).abs()
    places = torch.where(places < side, places, 2 * (side - 1) - places)
    return torch.zeros(side, side).scatter_add_(1, places, (weights / weights.sum()).expand(side, -1))


class StridedDepthwise(nn.Conv2d):
    """A depthwise convolution with a stride, in float32 if a processor computes the rest in bf16.

    oneDNN has no fast gradient of it in bf16: in MobileNetV2 these four layers took half of a training step
    (measured: tests/benchmarks/finetuning.py).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, C, h, w) of (N, C, H, W)."""
        if not torch.is_autocast_enabled("cpu") or input.device.type != "cpu":
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def build_head(features: int, classes: int, hidden: int, dropout: float) -> nn.Sequential:
    """Build the head: (N, features) to logits (N, classes).

    `hidden` is the width of a hidden layer with ReLU; 0: none. Dropout, 0 to below 1, is of the last layer's input.
    """
    layers: list[tuple[str, nn.Module]] = []
    if hidden:
        layers += [("hidden", nn.Linear(features, hidden)), ("relu", nn.ReLU())]
    layers += [("dropout", nn.Dropout(dropout)), ("logits", nn.Linear(hidden or features, classes))]
    return nn.Sequential(OrderedDict(layers))
