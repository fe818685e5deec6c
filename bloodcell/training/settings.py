"""Settings that follow from the images: `auto` for the crop, the size of an epoch and the number of epochs."""

from __future__ import annotations

import math
from dataclasses import replace

from bloodcell.data.crop import chosen_crop
from bloodcell.data.samples import Samples
from bloodcell.runtime import distributed
from bloodcell.runtime.schema.verbs import TrainConfig

#: Images of an epoch, at least and at most.
LEAST_EPOCH, MOST_EPOCH = 512, 2048
#: Images that a training sees at least, counted each time: 5 epochs of 2,048, as in experiment=cropped (RESULTS.md has
#: its grouped cross-validation).
VIEWS = 10_240


def settled(config: TrainConfig, samples: Samples) -> TrainConfig:
    """Return a configuration with values in place of `auto`; they follow from the training images alone.

    All images are seen once at least: more than `VIEWS` take more epochs.
    """
    data, trainer = config.data, config.trainer
    count = len(samples.of_split("train").table)
    if data.crop == "auto":
        data = replace(data, crop=distributed.once(lambda: chosen_crop(samples, data.finder)))
    if data.epoch_size == "auto":
        data = replace(data, epoch_size=min(max(count, LEAST_EPOCH), MOST_EPOCH))
    if trainer.max_epochs == "auto":
        trainer = replace(trainer, max_epochs=math.ceil(max(VIEWS, count) / (data.epoch_size or count)))
    return replace(config, data=data, trainer=trainer)
