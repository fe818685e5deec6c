"""Which part of a net learns in which epoch, and how fast: the `finetune` group applied to a net.

What learns follows from the number of the epoch alone, so a resumed run needs no memory of it.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bloodcell.models.blocks import blocks_of
from bloodcell.models.net import Net
from bloodcell.runtime.schema.model import FinetuneConfig


def apply_phase(finetune: FinetuneConfig, net: Net, epoch: int) -> None:
    """Set the gradients and modes of a net's modules for an epoch, from 0.

    A block without gradient is in evaluation mode too, or its batch norm would move. Lightning keeps each module's own
    mode.
    """
    blocks = blocks_of(net.backbone)
    first = len(blocks) - finetune.trainable_blocks(epoch, len(blocks))
    net.backbone.train(first < len(blocks))
    for number, block in enumerate(blocks):
        for parameter in block.parameters:
            parameter.requires_grad_(number >= first)
        for module in block.modules:
            module.train(number >= first)
    if finetune.batch_norm == "frozen":
        for module in net.backbone.modules():
            module.train(module.training and not isinstance(module, _BatchNorm))


def parameter_groups(finetune: FinetuneConfig, net: Net, lr: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups of all that ever learns, from the head down, each with name and learning rate.

    Optimizers skip a parameter without gradient, so every group can be there from the start. A block that begins later
    has a group of its own: the fused SGD needs the momentum of all parameters of a group or of none.
    """
    blocks = blocks_of(net.backbone)[::-1]
    named: list[tuple[str, list[nn.Parameter]]] = [("head", list(net.head.parameters()))]
    named += [(block.name, block.parameters) for block in blocks[: finetune.most_blocks(len(blocks))]]
    if finetune.lr_decay == 1 and finetune.name != "gradual":
        named = [("all", [parameter for _, parameters in reversed(named) for parameter in parameters])]
    return [
        {"params": parameters, "name": name, "lr": lr * finetune.lr_decay**depth}
        for depth, (name, parameters) in enumerate(named)
    ]
