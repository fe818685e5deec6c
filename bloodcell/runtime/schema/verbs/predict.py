"""Settings of `predict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import CELLS, TTA, require, require_choice, require_threshold, require_workers
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class PredictConfig(CommonConfig):
    """The configuration of `predict`."""

    checkpoint: Any
    classes: Any
    images: Any
    output: str | None
    overwrite: bool
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    cells: str
    corrections: str | None
    overlays: str | None
    geojson: str | None
    rois: str | None
    device: Any
    devices: Any
    workers: int | None

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, *CELLS)
        for key in ("overlays", "geojson", "rois"):
            wanted = self.cells in ("auto", "all") or getattr(self, key) is None
            require(wanted, key, getattr(self, key), f"it has the cells of fields, and this is cells={self.cells}")
        require_workers("workers", self.workers)
        require_threshold(self.abstain_below, self.error_rate)
