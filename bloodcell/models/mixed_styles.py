"""Feature statistics mixed between pictures in training, so that a net depends less on the look of a laboratory.

MixStyle, Zhou et al. 2021, https://arxiv.org/abs/2104.02008.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Share of the steps in which styles are mixed, and the parameter of the beta distribution of the shares.
MIXED, BETA = 0.5, 0.3


class MixedStyles:
    """A forward hook of some layers; `draw` decides whether the next step mixes."""

    def __init__(self, *layers: nn.Module) -> None:
        self.mixes = False
        self.handles = [layer.register_forward_hook(self) for layer in layers]

    def draw(self) -> None:
        """Decide it."""
        self.mixes = bool(torch.rand(()) < MIXED)

    def remove(self) -> None:
        """Leave the layers as they were."""
        for handle in self.handles:
            handle.remove()

    def __call__(self, _layer: nn.Module, _given: Any, features: Tensor) -> Tensor:
        """Return features, (N, C, H, W), each picture's with a mean and a spread between its own and another's."""
        if not self.mixes:
            return features
        x = features.float()
        mean, spread = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True) + 1e-3
        other = torch.randperm(len(x), device=x.device)
        share = torch.distributions.Beta(BETA, BETA).sample((len(x), 1, 1, 1)).to(x.device)
        mixed = (share * one + (1 - share) * one[other] for one in (mean.detach(), spread.detach()))
        to_mean, to_spread = mixed
        return ((x - mean) / spread * to_spread + to_mean).to(features.dtype)
