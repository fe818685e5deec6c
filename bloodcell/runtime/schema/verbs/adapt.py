"""Settings of `adapt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require, require_seed
from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.model import AugmentConfig, FinetuneConfig, LossConfig
from bloodcell.runtime.schema.trainer import TrainerConfig
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(CommonConfig):
    """The configuration of `adapt`."""

    checkpoint: Any
    corrections: str | None
    new_classes: Any
    steps: int
    data: DataConfig
    augment: AugmentConfig
    loss: LossConfig
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    finetune: FinetuneConfig
    trainer: TrainerConfig
    seed: int
    report: bool
    report_title: str | None

    def __post_init__(self) -> None:
        require_seed("seed", self.seed)
        require(self.steps >= 1, "steps", self.steps, "give 1 step or more")
        own = {"fold": None, "crop": "none", "image_size": None, "epoch_size": None, "sets": None}
        for key, usual in own.items():
            value = getattr(self.data, key)
            require(value == usual, f"data.{key}", value, "the reader and adapt choose it; leave it out")
        for key, off in {"class_weights": "none", "robust": 0.0, "own_classes": False}.items():
            value = getattr(self.loss, key)
            require(value == off, f"loss.{key}", value, "adapt has a loss of its own, but for loss.label_smoothing")
        epochs = self.trainer.max_epochs
        require(epochs == 1, "trainer.max_epochs", epochs, "a training of adapt is one epoch; give its length by steps")
        if self.corrections is not None and (self.data.kind != "imagefolder" or self.data.train_dir):
            raise BloodcellError("corrections= and data= both name labelled cells; give one of them")
