"""Features of training images in 8-bit integers: twice as fast, measured before a head learns from them.

Validation and test are in float32, as all predictions are, so the figures of the run are what its integers have cost.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bloodcell.data.samples import Samples
from bloodcell.inference.features import Extractor
from bloodcell.inference.quantisation import IntegerBackbone, Measured, no_gain, relative_rate, what_is_wanted
from bloodcell.runtime import distributed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json, write_json
from bloodcell.runtime.schema.data import INT8, FeaturesConfig

#: Training images that the two heads of the measurement learn from.
LEARNT = 1024


def learning_extractor(features: FeaturesConfig, samples: Samples, extractor: Extractor) -> Extractor:
    """Return what computes the features of the training images: in integers if that is asked for, else `extractor`.

    What the integers gain and lose is measured once, kept with their features, and said.

    Args:
        features: The `features` group.
        samples: The images, with training and validation parts.
        extractor: That in float32.

    Raises:
        BloodcellError: Integers are not for this device, or gain too little or lose too much.
    """
    if features.precision != INT8:
        return extractor
    if extractor.backbone.device != "cpu" or features.backend not in ("auto", "onnx") or distributed.here().size > 1:
        raise BloodcellError("features.precision=int8 is for one process on the CPU, and features.backend=auto or onnx")
    backbone = IntegerBackbone(extractor.net, extractor.preprocessing, samples.of_split("train"))
    integers = Extractor(extractor.net, extractor.preprocessing, backbone, extractor.root, extractor.threads)
    file = integers.store().folder / "measured.json"
    known = file.is_file()
    measured = Measured(**read_json(file)) if known else _measured(extractor, integers, samples)
    said = f"features of training images in integers: {measured}, judged by two small heads"
    if not (measured.accurate and measured.fast):
        raise BloodcellError(f"{said}; {what_is_wanted()}; leave features.precision=int8 out")
    if not known:
        write_json(asdict(measured), file)
    say(f"{said}{no_gain()}")
    return integers


def _measured(extractor: Extractor, integers: Extractor, samples: Samples) -> Measured:
    """Let two heads learn from the same training images, and judge the same validation images in float32."""
    train, val = samples.of_split("train"), samples.of_split("val")
    drawn = train.table.sample(min(LEARNT, len(train.table)), random_state=0).sort_index()
    learnt = Samples(drawn.reset_index(drop=True), train.root, train.white)
    with progress("features in float32 and integers") as report:
        unseen = np.asarray(extractor.features(val, report)[:])
        seen = [np.asarray(one.features(learnt, report)[:]) for one in (extractor, integers)]
    with progress("measuring integers"):
        before, after = (_balanced_accuracy(one, drawn["label"], unseen, val.table["label"]) for one in seen)
        float32, int8 = (one.backbone.forward().run for one in (extractor, integers))
        rate = relative_rate(float32, int8, extractor.preprocessing.image_size)
    return Measured(rate, before, after, len(val.table))


def _balanced_accuracy(learnt: Any, labels: Any, unseen: Any, true: Any) -> float:
    """Return the balanced accuracy, in percent, of a linear head on unseen features (M, F)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)).fit(learnt, labels)
    right = head.predict(unseen) == np.asarray(true)
    return 100 * float(np.mean([right[np.asarray(true) == name].mean() for name in sorted(set(true))]))
