"""How many steps of the head are one batch of Lightning."""

from __future__ import annotations

from typing import Any

import torch

from bloodcell.runtime import distributed
from bloodcell.runtime.schema.trainer import TrainerConfig
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training.callbacks.ema import MovingAverage

#: Lightning's own work for a batch takes as long as a step of a head.
TOGETHER = 64

#: Settings of the group `trainer` that are by single batches or single steps, unless they have their defaults.
_BY_BATCH = (
    "max_steps", "min_steps", "max_time", "limit_train_batches", "overfit_batches", "fast_dev_run",
    "val_check_interval", "accumulate_grad_batches", "gradient_clip_val", "profiler",
)  # fmt: skip


def steps_together(config: TrainConfig, rows: Any, trainer: Any) -> int:
    """Return how many training batches Lightning gets at a time: `TOGETHER`, or 1 if anything looks at single ones.

    `rows` are those that batches are drawn from: features in memory are so small that it matters. The weights are the
    same, bit for bit.
    """
    features = torch.is_tensor(rows) and rows.ndim == 2
    alone = distributed.here().size == 1 and trainer.precision == "32-true"
    default = TrainerConfig()
    usual = all(getattr(config.trainer, name) == getattr(default, name) for name in _BY_BATCH)
    by_epoch = config.scheduler["_target_"] is None and all(map(_looks_at_epochs, trainer.callbacks))
    return TOGETHER if features and alone and usual and by_epoch else 1


def _looks_at_epochs(callback: Any) -> bool:
    """Return whether a callback is known to do nothing after single steps."""
    ours = type(callback).__module__.startswith("bloodcell.") and not isinstance(callback, MovingAverage)
    steps = getattr(callback, "_every_n_train_steps", 0) or getattr(callback, "_train_time_interval", None)
    return ours and not steps
