"""Adaptation of a classifier to another laboratory, by the batch-norm statistics of its images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from bloodcell.inference.engine import Engine, engine_of
from bloodcell.models.batch_norm_adaptation import adapt_to_images, require_own_statistics
from bloodcell.runtime import distributed


def adapted(engine: Engine, images: Sequence[Any], threads: int) -> Engine:
    """Return an engine whose batch norm has the statistics of some images; no label is used.

    Args:
        engine: The engine; not changed.
        images: Files, RGB arrays uint8 (H, W, 3) or Pillow images, as various as those to predict.
        threads: Decoding threads.

    Raises:
        BloodcellError: There are too few images, one cannot be read, or the net's batch norm has no statistics of its
            training images.
    """
    require_own_statistics(engine.trained())
    classifier, extractor = copy.deepcopy(engine.trained()), engine.extractor
    assert extractor is not None
    backbone = extractor.backbone

    def statistics() -> dict[str, Any]:
        adapt_to_images(classifier.net, images, engine.preprocessing, threads, backbone.device)
        return {name: value.cpu() for name, value in classifier.net.state_dict().items()}

    classifier.net.load_state_dict(distributed.once(statistics))
    classifier.limits = None  # they describe the former features
    return engine_of(classifier, backbone.device, backbone.asked, backbone.precision, engine.file)
