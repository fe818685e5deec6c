"""The course of the learning rates, in the form that Lightning wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bloodcell.runtime.config import instantiate
from bloodcell.runtime.errors import BloodcellError


def build_scheduler(
    scheduler: dict[str, Any], optimizer: Any, shares: list[float], steps: Callable[[], float]
) -> dict[str, Any]:
    """Build the scheduler of an optimizer; the ratios between the rates of its groups stay.

    In the configuration the value `total_steps` stands for what `steps` returns, infinite if training has no end, and
    `max_lr` is the head's rate; `shares` are the groups' rates relative to it.

    Raises:
        BloodcellError: The scheduler needs an end, and there is none.
    """
    if str(scheduler["_target_"]).endswith("ReduceLROnPlateau"):
        return {"scheduler": instantiate(scheduler, optimizer), "monitor": "val/loss"}
    if (total := steps()) == math.inf:
        raise BloodcellError("this scheduler needs an end: set trainer.max_epochs, or use scheduler=none or plateau")
    values = {key: max(1, int(total)) if value == "total_steps" else value for key, value in scheduler.items()}
    if "max_lr" in values:
        values["max_lr"] = [values["max_lr"] * share for share in shares]
    return {"scheduler": instantiate(values, optimizer), "interval": "step"}
