"""Settings of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import TTA, figure_formats, require_choice, require_workers
from bloodcell.runtime.schema.data import DataConfig
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(CommonConfig):
    """The configuration of `evaluate`."""

    data: DataConfig
    checkpoint: Any
    classes: Any
    predictions: Any
    compare: bool
    splits: Any
    tta: str | None
    adapt: str
    device: Any
    devices: Any
    workers: int | None
    figures: Any
    report: bool
    report_title: str | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("adapt", self.adapt, "none", "batch_norm")
        figure_formats(self.figures)
        require_workers("workers", self.workers)
