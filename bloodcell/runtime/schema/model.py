"""The groups `model`, `augment`, `loss` and `finetune`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require, require_choice


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The `model.head` settings."""

    pool: str
    hidden: int
    dropout: float

    def __post_init__(self) -> None:
        require_choice("model.head.pool", self.pool, "avg", "max")
        if not 0 <= self.dropout < 1 or self.hidden < 0:
            raise BloodcellError(
                f"model.head: hidden={self.hidden}, dropout={self.dropout}; hidden is 0 or more, dropout 0 to below 1"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The `model` group: backbone and head."""

    name: str
    library: str
    weights: str | None
    width: float | None
    image_size: int
    mean: list[float]
    std: list[float]
    head: HeadConfig
    blur: float = 0.0  # an older checkpoint has none

    def __post_init__(self) -> None:
        require_choice("model.library", self.library, "torchvision", "timm")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers = len(values) == 3 and all(map(math.isfinite, values))
            require(numbers, f"model.{name}", values, "give a list of 3 numbers, of red, green and blue")
        require(min(self.std) > 0, "model.std", self.std, "give three numbers above 0")
        require(0 <= self.blur <= 0.1, "model.blur", self.blur, "give a share of the image's side from 0 to 0.1")

    @classmethod
    def of(cls, values: dict[str, Any]) -> ModelConfig:
        """Return the settings from a checkpoint's plain values."""
        return cls(**{**values, "head": HeadConfig(**values["head"])})


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """The `augment` group: the largest random change of each kind; 0 changes nothing."""

    name: str = ""  # none: no augmentation
    rotation: float = 0.0  # degrees, in either direction
    flip: bool = False  # mirror half of the images
    scale: float = 0.0  # zoom by a factor of 1 plus or minus this
    shift: float = 0.0  # share of the image's side, in either direction
    stain: float = 0.0  # factor of each stain's optical density; a tenth of it is added to the whole image
    white_balance: float = 0.0  # factor of red, green and blue
    brightness: float = 0.0  # factor
    contrast: float = 0.0  # factor, about the image's mean
    gamma: float = 0.0  # factor of the exponent
    blur: float = 0.0  # width of the Gaussian as a share of the image's side, from 0

    def __post_init__(self) -> None:
        factors = (self.scale, self.stain, self.white_balance, self.brightness, self.contrast, self.gamma)
        if min(self.rotation, self.shift, *factors, self.blur) < 0 or max(factors) >= 1 or self.blur > 0.1:
            raise BloodcellError("augment: values are 0 or more; the factors below 1, blur at most 0.1")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The `loss` group."""

    class_weights: str | None
    label_smoothing: float
    robust: float = 0.0
    own_classes: bool = False

    def __post_init__(self) -> None:
        require_choice("loss.class_weights", self.class_weights, "none", "balanced", None)
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "loss.label_smoothing", smoothing, "give a number from 0 to below 1")
        require(0 <= self.robust <= 1, "loss.robust", self.robust, "give a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """The `finetune` group: which part of the net learns in which epoch, and how fast."""

    name: str  # frozen: the head learns; full: everything; gradual: the head, then one more block after the other
    lr_decay: float = 1.0  # learning rate of a block over that of the block above; the head is above the topmost
    batch_norm: str = "train"  # in blocks that learn; train: statistics of each batch; frozen: fixed statistics
    head_epochs: int = 0  # gradual: epochs in which the head alone learns
    block_epochs: int = 1  # gradual: epochs from one block to the next
    blocks: int | None = None  # full and gradual: number of blocks that ever learn, from the top; None: all

    def __post_init__(self) -> None:
        require_choice("finetune", self.name, "frozen", "full", "gradual")
        require(0 < self.lr_decay <= 1, "finetune.lr_decay", self.lr_decay, "give a number above 0, up to 1")
        require_choice("finetune.batch_norm", self.batch_norm, "train", "frozen")
        require(self.head_epochs >= 0, "finetune.head_epochs", self.head_epochs, "give 0 epochs or more")
        require(self.block_epochs >= 1, "finetune.block_epochs", self.block_epochs, "give 1 epoch or more")
        blocks = self.blocks
        require(blocks is None or blocks >= 1, "finetune.blocks", blocks, "give 1 block or more, or null")

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.name == "frozen"

    def most_blocks(self, count: int) -> int:
        """Return how many of a backbone's blocks ever learn; raise a BloodcellError if it has fewer."""
        if self.blocks is not None and self.blocks > count:
            raise BloodcellError(f"finetune.blocks={self.blocks}, but this model has {count} blocks; null means all")
        return 0 if self.frozen else self.blocks or count

    def trainable_blocks(self, epoch: int, count: int) -> int:
        """Return how many of a backbone's `count` blocks, from the top, learn in an epoch, counted from 0."""
        most = self.most_blocks(count)
        if self.name != "gradual":
            return most
        return min(most, max(0, (epoch - self.head_epochs) // self.block_epochs + 1))

    def last_phase(self, count: int) -> int:
        """Return the first epoch, counted from 0, in which every block that ever learns does."""
        return self.head_epochs + (self.most_blocks(count) - 1) * self.block_epochs if self.name == "gradual" else 0
