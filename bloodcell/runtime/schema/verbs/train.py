"""Settings of `train`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import TTA, figure_formats, require, require_choice, require_seed
from bloodcell.runtime.schema.data import INT8, DataConfig, InferenceConfig
from bloodcell.runtime.schema.model import AugmentConfig, FinetuneConfig, LossConfig, ModelConfig
from bloodcell.runtime.schema.trainer import TrainerConfig
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class EndOfTrainingConfig:
    """The `evaluate` settings of a training."""

    test: bool | None
    tta: str
    figures: Any

    def __post_init__(self) -> None:
        require_choice("evaluate.tta", self.tta, *TTA)
        figure_formats(self.figures, "evaluate.figures")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(CommonConfig):
    """The configuration of `train`."""

    data: DataConfig
    model: ModelConfig
    augment: AugmentConfig
    loss: LossConfig
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    finetune: FinetuneConfig
    callbacks: dict[str, Any]
    logger: dict[str, Any]
    trainer: TrainerConfig
    evaluate: EndOfTrainingConfig
    seed: int
    resume: str | None
    skip_finished: bool
    calibrate: bool | None = False
    limits: bool = False
    report: bool = False
    report_title: str | None = None
    audit: str | None = None

    def __post_init__(self) -> None:
        require_seed("seed", self.seed)
        require_choice("audit", self.audit, None, "auto")
        rate = self.optimizer.get("lr")
        require(isinstance(rate, int | float) and math.isfinite(rate), "optimizer.lr", rate, "give a number above 0")
        if self.loss.class_weights == "balanced" and self.data.sampling == "balanced":
            raise BloodcellError("data.sampling=balanced and loss.class_weights=balanced do the same twice; choose one")
        keeps = self.features.keeps(self.finetune.frozen, self.augmented)
        if self.features.precision == INT8 and not (keeps and self.features.backend in ("auto", "onnx")):
            raise BloodcellError(
                "features.precision=int8 is for kept features by ONNX Runtime: finetune=frozen, with augment=none or "
                "features.views, and features.backend=auto"
            )

    @property
    def augmented(self) -> bool:
        """Whether training changes its images at random."""
        return self.augment.name != "none"

    @property
    def calibrates(self) -> bool:
        """Whether a temperature is fitted; by default not for a fold, whose predictions must not use its labels."""
        return self.data.fold is None if self.calibrate is None else self.calibrate

    @property
    def inference(self) -> InferenceConfig:
        """How its classifier predicts unless asked otherwise."""
        chosen = self.features
        precision = InferenceConfig.precision if chosen.precision in (None, INT8) else chosen.precision
        return InferenceConfig(tta=self.evaluate.tta, backend=chosen.backend, precision=precision)

    def tests(self, many: bool) -> bool:
        """Return whether the run evaluates the test part: by default a single run, or one that leaves out a set."""
        if self.evaluate.test is not None:
            return self.evaluate.test
        return self.data.leave_out is not None or (not many and self.data.fold is None)
