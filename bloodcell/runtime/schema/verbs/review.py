"""Settings of `review`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import CELLS, TTA, require, require_choice, require_threshold, require_workers
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class ReviewConfig(CommonConfig):
    """The configuration of `review`."""

    checkpoint: Any
    classes: Any
    images: Any
    corrections: str | None
    reviewer: str | None
    next: int
    cells: str
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    device: Any
    workers: int | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, *CELLS)
        require_threshold(self.abstain_below, self.error_rate)
        require_workers("workers", self.workers)
        require(0 <= self.next <= 1000, "next", self.next, "give 0 to 1,000 cells")
