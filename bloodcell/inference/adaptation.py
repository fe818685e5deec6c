"""Adaptation to another laboratory's images without labels: batch norm takes their statistics.

Li et al. 2016, "Revisiting batch normalization for practical domain adaptation" (https://arxiv.org/abs/1603.04779).
Stain, lamp and camera shift the mean and spread of every channel; these are measured again, and nothing is learnt.
The classes shift them, too: if most images are of one class, adaptation makes the net worse, however many there are
(measured: tests/benchmarks/batch_norm_shares.py). So it is never the default, and such images cause a warning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bloodcell.data.decoder import decode
from bloodcell.data.threads import map_in_order
from bloodcell.inference.engine import Engine, engine_of
from bloodcell.models.net import Net
from bloodcell.runtime import distributed
from bloodcell.runtime.console import complain
from bloodcell.runtime.errors import BloodcellError

if TYPE_CHECKING:
    from bloodcell.models.classifier import Classifier

Item = TypeVar("Item")

#: Weight of the training statistics, in images of the new laboratory; 8 to 128 work well (Schneider et al. 2020,
#: https://arxiv.org/abs/2006.16971).
PRIOR = 16
LEAST, MOST = 32, 2048
BATCH = 64
#: Share of a class among the predictions of the first `LOOKED_AT` groups of images from which there is a warning.
ONE_SIDED, LOOKED_AT = 0.75, 4


def adapted(engine: Engine, images: Sequence[Any], threads: int) -> Engine:
    """Return an engine whose batch norm has the statistics of at most `MOST` images; no label is used.

    Args:
        engine: The engine; not changed.
        images: Files, RGB arrays uint8 (H, W, 3) or Pillow images, at least `LEAST`, as various as those to predict.
        threads: Decoding threads.

    Raises:
        BloodcellError: There are too few images, one cannot be read, or the net's batch norm has no statistics of its
            training images.
    """
    require_own_statistics(engine.trained())
    classifier, extractor = copy.deepcopy(engine.trained()), engine.extractor
    assert extractor is not None
    net, backbone = classifier.net, extractor.backbone

    def statistics() -> dict[str, Any]:
        if (count := len(images)) < LEAST:
            raise BloodcellError(f"adapt=batch_norm needs {LEAST} images of the new laboratory; there are {count}")
        decoded = iter(map_in_order(lambda group: decode(group, engine.preprocessing)[0], mixed(images), threads))
        first = list(islice(decoded, LOOKED_AT))
        if said := one_sided(engine, np.concatenate(first)):
            complain(f"warning: {said}")
        decoded = chain(first, decoded)
        net.to(backbone.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch declares no such call
        adapt_batch_norm(net, (torch.from_numpy(one).permute(0, 3, 1, 2).to(backbone.device) for one in decoded))
        return {name: value.cpu() for name, value in net.state_dict().items()}

    net.load_state_dict(distributed.once(statistics))
    classifier.limits = classifier.confusion = None  # they describe the former features
    changed = engine_of(classifier, backbone.device, backbone.asked, backbone.precision, engine.file)
    return changed.answering(engine.classes)


def one_sided(engine: Engine, images: Any) -> str | None:
    """Return a sentence if an engine takes most of some decoded images, uint8 (N, H, W, 3), for one class."""
    counts = np.bincount(engine.predict(images).probabilities.argmax(axis=1))
    share, name = counts.max() / len(images), engine.classes[int(counts.argmax())]
    if share < ONE_SIDED:
        return None
    return (
        f"the net takes {100 * share:.0f} % of these images for {name}; if they are, adapt=batch_norm makes it worse: "
        "give images of all classes, or use adapt=none"
    )


def require_own_statistics(classifier: Classifier) -> None:
    """Check that a net's batch norm has the statistics of its training images.

    Raises:
        BloodcellError: It has those of the pretrained weights, which may be of no images at all.
    """
    finetune = classifier.finetune
    unfinished = finetune.frozen or classifier.epoch_reached < classifier.last_phase
    if unfinished or finetune.batch_norm != "train" or finetune.blocks is not None:
        raise BloodcellError(
            "adapt=batch_norm needs a net that was trained with finetune=full or gradual, all blocks, and "
            "finetune.batch_norm=train; this one has the statistics of its pretrained weights; use adapt=none"
        )


def mixed(items: Sequence[Item]) -> list[list[Item]]:
    """Return at most `MOST` of the items, shuffled, as items sorted by class would make batches of one class.

    The order is the same each time; groups have about `BATCH` items.
    """
    chosen = np.random.default_rng(0).permutation(len(items))[:MOST]
    return [[items[i] for i in group] for group in np.array_split(chosen, max(1, len(chosen) // BATCH))]


@torch.no_grad()
def adapt_batch_norm(net: Net, batches: Iterable[Tensor]) -> None:
    """Move the batch-norm statistics of a net to those of some images.

    Args:
        net: The net; changed in place, and left in evaluation mode.
        batches: Images (N, 3, H, W), uint8 of 0 to 255 or float of 0 to 1, classes mixed in each batch.

    Raises:
        BloodcellError: The net has no batch norm, or its statistics of these images are not finite.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise BloodcellError(f"adapt=batch_norm: {net.name} has no batch norm; use adapt=none")
    both = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
    statistics = [value for value in both if value is not None]
    before = [value.clone() for value in statistics]
    sums = [torch.zeros_like(value) for value in statistics]
    momentum, count = norms[0].momentum, 0
    net.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # each batch leaves its own statistics
    for images in batches:
        net.features(images)
        count += len(images)
        for total, value in zip(sums, statistics, strict=True):
            total += len(images) * value
    for value, total, prior in zip(statistics, sums, before, strict=True):
        value.copy_((PRIOR * prior + total) / (PRIOR + count))
        if not torch.isfinite(value).all():  # an infinite variance would give every image one and the same answer
            raise BloodcellError("adapt=batch_norm: the net's numbers overflow for these images; use adapt=none")
    for norm in norms:
        norm.momentum = momentum
    net.eval()
