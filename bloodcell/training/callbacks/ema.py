"""A moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from bloodcell.runtime.errors import BloodcellError


class MovingAverage(WeightAveraging):
    """Keeps the exponential moving average of weights and statistics over the optimizer's steps.

    The average is validated and is a checkpoint's `state_dict`, beside the weights for further training. It starts with
    the first step's weights. After n more steps the decay is at most (1 + n) / (2 + power + n), so that short trainings
    forget the random head too: until that is above `decay`, step t has a weight of about t to the power of `power`
    (Shamir and Zhang 2013, https://arxiv.org/abs/1212.1824).

    Args:
        decay: The share of the average that stays at each step, 0 to below 1.
        power: 0 or more; 0 weighs all steps alike, with 1 the latest 29 % of them have half of the weight, with 8 7 %.
    """

    def __init__(self, decay: float = 0.999, power: float = 8) -> None:
        if not 0 <= decay < 1:
            raise BloodcellError(f"callbacks.average.decay={decay}; give a number from 0 to below 1")
        if not 0 <= power < math.inf:
            raise BloodcellError(f"callbacks.average.power={power}; give a number of 0 or more")
        self.decay, self.power = decay, power
        super().__init__(use_buffers=True, multi_avg_fn=self._move)

    @torch.no_grad()
    def _move(self, averages: Any, values: Any, steps: Tensor | int) -> None:
        """Move averages towards values of one type, in place; copy integers, which are counters."""
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay_after(int(steps), self.decay, self.power))
        else:
            torch._foreach_copy_(averages, values)


def decay_after(steps: int, decay: float, power: float = 8) -> float:
    """Return the decay after a number of steps, at most `decay`."""
    return min(decay, (1 + steps) / (2 + power + steps))
