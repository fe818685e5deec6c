"""Settings of `tune`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.schema.checks import require
from bloodcell.runtime.schema.verbs.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The `tune` settings of `tune`."""

    trials: int
    workers: int
    metric: str
    folds: Any
    storage: str | None
    name: str | None
    sampler: dict[str, Any]
    pruner: Any

    def __post_init__(self) -> None:
        for key in ("trials", "workers"):
            require(getattr(self, key) >= 1, f"tune.{key}", getattr(self, key), "give a whole number of 1 or more")


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainConfig):
    """The configuration of `tune`; `sweep` maps keys to ranges."""

    tune: StudyConfig
    sweep: Any
    study: str
