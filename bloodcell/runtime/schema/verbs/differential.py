"""Settings of `differential`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import TTA, require_choice, require_one_group, require_threshold, require_workers
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class DifferentialConfig(CommonConfig):
    """The configuration of `differential`."""

    checkpoint: Any
    classes: Any
    images: Any
    slide_regex: str | None
    corrections: str | None
    cells: str
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    device: Any
    workers: int | None
    report: bool

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, "all", "auto", "one")
        require_workers("workers", self.workers)
        require_threshold(self.abstain_below, self.error_rate)
        if self.slide_regex is not None:
            require_one_group("slide_regex", self.slide_regex)
