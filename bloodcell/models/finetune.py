"""Which part of a net learns in which epoch, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bloodcell.models.blocks import Block, blocks_of
from bloodcell.models.net import Net
from bloodcell.runtime.errors import BloodcellError


@dataclass(frozen=True)
class Finetune:
    """The `finetune` configuration.

    What learns follows from the number of the epoch alone, so that a resumed run needs no memory of it.

    Args:
        name: frozen: the head; full: everything; gradual: the head, then one more block after the other.
        lr_decay: The learning rate of a block is that of the block above times this; the head is above the topmost.
        batch_norm: Of what learns; train: statistics of each batch; frozen: they stay as they are.
        head_epochs: gradual: epochs in which the head alone learns.
        block_epochs: gradual: epochs from one block to the next.
        blocks: full and gradual: how many blocks ever learn, from the top; None: all.

    Raises:
        BloodcellError: One of them is no such value.
    """

    name: str
    lr_decay: float = 1.0
    batch_norm: str = "train"
    head_epochs: int = 0
    block_epochs: int = 1
    blocks: int | None = None

    def __post_init__(self) -> None:
        checks = {
            "name": (self.name in ("frozen", "full", "gradual"), "frozen, full or gradual"),
            "lr_decay": (0 < self.lr_decay <= 1, "a number above 0, up to 1"),
            "batch_norm": (self.batch_norm in ("train", "frozen"), "train or frozen"),
            "head_epochs": (_whole(self.head_epochs, 0), "a whole number of epochs, 0 or more"),
            "block_epochs": (_whole(self.block_epochs, 1), "a whole number of epochs, 1 or more"),
            "blocks": (self.blocks is None or _whole(self.blocks, 1), "a number of blocks, 1 or more, or null"),
        }
        for key, (right, wanted) in checks.items():
            if not right:
                shown = "finetune" if key == "name" else f"finetune.{key}"
                raise BloodcellError(f"{shown}={getattr(self, key)}; choose {wanted}")

    @classmethod
    def of(cls, finetune: dict[str, Any]) -> Finetune:
        """Read a configuration; what an older checkpoint does not name has the value that acts as it did."""
        try:
            return cls(**finetune)
        except TypeError as error:
            raise BloodcellError(f"finetune: {' '.join(str(error).split())}") from error

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.name == "frozen"

    def most_blocks(self, count: int) -> int:
        """Return how many of a backbone's blocks ever learn.

        Raises:
            BloodcellError: More are wanted than there are.
        """
        if self.blocks is not None and self.blocks > count:
            raise BloodcellError(f"finetune.blocks={self.blocks}, but this model has {count} blocks; null means all")
        return 0 if self.frozen else self.blocks or count

    def trainable_blocks(self, epoch: int, count: int) -> int:
        """Return how many blocks, from the top, learn in an epoch.

        Args:
            epoch: From 0.
            count: The blocks of the backbone.
        """
        most = self.most_blocks(count)
        if self.name != "gradual":
            return most
        return min(most, max(0, (epoch - self.head_epochs) // self.block_epochs + 1))

    def last_phase(self, count: int) -> int:
        """Return the first epoch, from 0, in which all that ever learns does."""
        return self.head_epochs + (self.most_blocks(count) - 1) * self.block_epochs if self.name == "gradual" else 0

    def apply(self, net: Net, epoch: int) -> None:
        """Put a net into the state of an epoch: who has a gradient, and who is in which mode.

        A block without gradient is in evaluation mode as well, or its batch norm would move. Lightning keeps each
        module's own mode.
        """
        blocks = blocks_of(net.backbone)
        first = len(blocks) - self.trainable_blocks(epoch, len(blocks))
        net.backbone.train(first < len(blocks))
        for number, block in enumerate(blocks):
            _set(block, number >= first)
        if self.batch_norm == "frozen":
            for module in net.backbone.modules():
                module.train(module.training and not isinstance(module, _BatchNorm))

    def groups(self, net: Net, lr: float) -> list[dict[str, Any]]:
        """Return the optimizer's groups of all that ever learns, from the head downwards, each with name and rate.

        A parameter without gradient is left alone by optimizers, by decay and momentum too, so every group can be
        there from the start. What learns at one rate from the first step on is one group; what begins later never is
        in a group with others, as the fused SGD wants the momentum of all of a group or of none.
        """
        blocks = blocks_of(net.backbone)[::-1]
        named: list[tuple[str, list[nn.Parameter]]] = [("head", list(net.head.parameters()))]
        named += [(block.name, block.parameters) for block in blocks[: self.most_blocks(len(blocks))]]
        if self.lr_decay == 1 and self.name != "gradual":
            named = [("all", [parameter for _, parameters in reversed(named) for parameter in parameters])]
        return [
            {"params": parameters, "name": name, "lr": lr * self.lr_decay**depth}
            for depth, (name, parameters) in enumerate(named)
        ]


def _set(block: Block, learns: bool) -> None:
    """Let a block learn, or keep it as it is."""
    for parameter in block.parameters:
        parameter.requires_grad_(learns)
    for module in block.modules:
        module.train(learns)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
