"""Settings of `paint`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import require, require_seed
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class PaintConfig(CommonConfig):
    """The configuration of `paint`."""

    output: str | None
    slides: int
    cells: int
    shares: Any
    seed: int

    def __post_init__(self) -> None:
        for key in ("slides", "cells"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "give a whole number of 1 or more")
        require_seed("seed", self.seed)
        shares = list(self.shares.values()) if isinstance(self.shares, dict) else []
        right = all(isinstance(one, int | float) and one >= 0 for one in shares)
        right = self.shares is None or (right and math.isclose(sum(shares), 1, abs_tol=1e-6))
        require(right, "shares", self.shares, "give shares that add up to 1, e.g. {LYMPHOCYTE: 0.4, MONOCYTE: 0.6}")
