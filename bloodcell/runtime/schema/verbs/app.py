"""Settings of `app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import CELLS, TTA, require, require_choice, require_one_group, require_threshold
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class AppConfig(CommonConfig):
    """The configuration of `app`."""

    checkpoint: Any
    classes: Any
    images: Any
    corrections: str | None
    reviewer: str | None
    blind: bool
    slide_regex: str | None
    host: str
    port: int
    max_megabytes: float
    max_pixels: int
    cells: str
    abstain_below: float | None
    error_rate: float | None
    tta: str | None
    device: Any
    open_browser: bool

    def __post_init__(self) -> None:
        require_choice("tta", self.tta, None, *TTA)
        require_choice("cells", self.cells, *CELLS)
        require_threshold(self.abstain_below, self.error_rate)
        require(0 <= self.port <= 65_535, "port", self.port, "give 0 to 65,535")
        require(self.images is not None or not self.blind, "blind", self.blind, "it goes with images=FOLDER")
        if self.slide_regex is not None:
            require_one_group("slide_regex", self.slide_regex)
        megabytes = self.max_megabytes
        require(0.001 <= megabytes <= 1000, "max_megabytes", megabytes, "give a number from 0.001 to 1,000")
