"""Settings of `find-lr`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require
from bloodcell.runtime.schema.verbs.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class FinderConfig:
    """The `finder` settings of `find-lr`."""

    min_lr: float
    max_lr: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.min_lr < self.max_lr < math.inf:
            raise BloodcellError(
                f"finder: min_lr={self.min_lr}, max_lr={self.max_lr}; give min_lr above 0 and below max_lr"
            )
        require(self.steps >= 10, "finder.steps", self.steps, "give 10 or more")


@dataclass(frozen=True, kw_only=True)
class FindLrConfig(TrainConfig):
    """The configuration of `find-lr`."""

    finder: FinderConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.resume is None, "resume", self.resume, "find-lr continues no run; leave it out")
        for key in ("fast_dev_run", "profiler"):
            value = getattr(self.trainer, key)
            require(not value, f"trainer.{key}", value, "find-lr takes finder.steps steps; leave it out")
