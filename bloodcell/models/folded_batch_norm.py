"""Unfolding of batch norm that was folded into the convolutions, so that it can learn and computes the same.

Folding (Jacob et al. 2018, https://arxiv.org/abs/1712.05877) leaves each batch norm with mean 0, variance 1 and scale
1, whatever its input is. In training mode batch norm takes the statistics of each batch instead, so the first step
would compute something else and lose what was pretrained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bloodcell.data.decoder import decode
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.threads import map_in_order
from bloodcell.models.net import Net, evaluation_mode

IMAGES, BATCH = 512, 64


def unfold_where_folded(net: Net, files: list[str], preprocessing: Preprocessing, threads: int) -> int:
    """Unfold the batch norm of a pretrained net, in place, if it is folded; return the number of images used, else 0.

    Of the training images `files` at most `IMAGES` are used, the same each time.
    """
    if not folded(net):
        return 0
    chosen = np.random.default_rng(0).permutation(len(files))[:IMAGES]
    groups = [[files[i] for i in group] for group in np.array_split(chosen, -(-len(chosen) // BATCH))]
    decoded = map_in_order(lambda group: decode(group, preprocessing)[0], groups, threads)
    return unfold(net, (torch.from_numpy(images).permute(0, 3, 1, 2) for images in decoded))


def folded(net: nn.Module) -> bool:
    """Return whether every batch norm of a net only shifts, and some do shift, which new ones do not."""
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    return bool(norms) and all(_only_shifts(norm) for norm in norms) and any(norm.bias.any() for norm in norms)


def _only_shifts(norm: _BatchNorm) -> bool:
    neutral = [(norm.running_mean, 0.0), (norm.running_var, 1.0), (norm.weight, 1.0)]
    return all(
        value is not None and torch.allclose(value, torch.full_like(value, to), atol=1e-4) for value, to in neutral
    )


@torch.no_grad()
def unfold(net: Net, batches: Iterable[Tensor]) -> int:
    """Give each batch norm of a net the statistics of its input, and the scale and shift that keep its function.

    The net keeps its mode. Batches are images (N, 3, H, W), uint8 of 0 to 255 or float of 0 to 1, at least two in all.
    Their number is returned.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms]
    hooks = [norm.register_forward_pre_hook(_adds_to(total)) for norm, total in zip(norms, sums, strict=True)]
    count = 0
    try:
        with evaluation_mode(net):
            for images in batches:
                net.features(images)
                count += len(images)
    finally:
        for hook in hooks:
            hook.remove()
    for norm, (values, total, squares) in zip(norms, sums, strict=True):
        mean = total / values
        variance = (squares - values * mean**2) / (values - 1)
        _keep_function(norm, mean.float(), variance.clamp_min(0).float())
    return count


def _adds_to(sums: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """Return a hook that adds up number, sum and sum of squares of each channel of a module's input."""

    def add(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        channels = inputs[0].detach().double().transpose(0, 1).flatten(1).cpu()
        sums.add_(torch.stack([torch.full((len(channels),), channels.shape[1]), channels.sum(1), (channels**2).sum(1)]))

    return add


def _keep_function(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Set the statistics of a batch norm, and scale and shift so that its function stays."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.add_((mean - norm.running_mean) * scale)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
