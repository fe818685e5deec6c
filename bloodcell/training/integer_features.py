"""Features of training images in 8-bit integers: twice as fast, measured before a head learns from them.

Validation and test are in float32, as all predictions are: the figures of a run are those of the net that predicts.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bloodcell.data.samples import Samples
from bloodcell.inference.features import Extractor
from bloodcell.inference.quantisation import (
    FIRST_IN_FLOAT,
    IntegerBackbone,
    Measured,
    no_gain,
    relative_rate,
    what_is_wanted,
)
from bloodcell.metrics.by_source import sources_of
from bloodcell.runtime import distributed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json, write_json
from bloodcell.runtime.schema.data import INT8, FeaturesConfig

Array = np.ndarray[Any, np.dtype[Any]]

#: Most training images by which the accuracy is measured, and the parts that are judged in turn.
MOST, FOLDS = 4096, 5
#: Ridge penalty of the heads that are compared, on features of variance 1.
PENALTY = 1000.0


def learning_extractor(features: FeaturesConfig, samples: Samples, extractor: Extractor) -> Extractor:
    """Return what computes the features of the training images: in integers if that is asked for, else `extractor`.

    What the integers gain and lose is measured once, kept with their features, and said.

    Args:
        features: The `features` group.
        samples: The images.
        extractor: That in float32.

    Raises:
        BloodcellError: Integers are not for this device, or gain too little or lose too much.
    """
    if features.precision != INT8:
        return extractor
    if extractor.backbone.device != "cpu" or features.backend not in ("auto", "onnx") or distributed.here().size > 1:
        raise BloodcellError("features.precision=int8 is for one process on the CPU, and features.backend=auto or onnx")
    train = samples.of_split("train")
    tried = [_in_integers(extractor, train, count) for count in FIRST_IN_FLOAT]
    for integers in tried:
        if (file := integers.store().folder / "measured.json").is_file():
            say(_said(Measured(**read_json(file))))
            return integers
    integers, measured = _measured(extractor, tried, train)
    if not (measured.accurate and measured.fast):
        raise BloodcellError(f"{_said(measured)}; {what_is_wanted()}; leave features.precision=int8 out")
    write_json(asdict(measured), integers.store().folder / "measured.json")
    say(f"{_said(measured)}{no_gain()}")
    return integers


def _in_integers(extractor: Extractor, train: Samples, first_in_float: int) -> Extractor:
    net, preprocessing = extractor.net, extractor.preprocessing
    backbone = IntegerBackbone(net, preprocessing, train, first_in_float)
    return Extractor(net, preprocessing, backbone, extractor.root, extractor.threads)


def _said(measured: Measured) -> str:
    return f"features of training images in integers: {measured} by cross-validation of a small head"


def _measured(extractor: Extractor, tried: list[Extractor], train: Samples) -> tuple[Extractor, Measured]:
    """Return the first of the tried that is fast enough, else the last, and what was measured of it."""
    drawn = train.table.sample(min(MOST, len(train.table)), random_state=0).sort_index().reset_index(drop=True)
    some = Samples(drawn, train.root, train.white)
    with progress("features in float32, to compare") as report:
        float32 = np.asarray(extractor.features(some, report)[:])
    with progress("measuring integers"):
        for integers in tried:
            runs = [one.backbone.forward().run for one in (extractor, integers)]
            rate = relative_rate(runs[0], runs[1], extractor.preprocessing.image_size)
            if Measured(rate, 0, 0, 0).fast:
                break
    with progress("features in integers, to compare") as report:
        int8 = np.asarray(integers.features(some, report)[:])
    labels, sources = drawn["label"].to_numpy(), sources_of(drawn).to_numpy()
    before, after = (balanced_accuracy(one, float32, labels, sources) for one in (float32, int8))
    return integers, Measured(rate, before, after, len(drawn))


def balanced_accuracy(learnt: Array, judged: Array, labels: Array, sources: Array) -> float:
    """Return the balanced accuracy, in percent, of linear heads on sources that they did not learn from.

    Args:
        learnt: Features that the heads learn from, (N, F).
        judged: Features of the same images that they are judged by, (N, F).
        labels: Class names, (N,).
        sources: (N,).
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = labels.copy()
    folds = GroupKFold(min(FOLDS, len(set(sources))))
    for others, fold in folds.split(learnt, labels, sources):
        head = make_pipeline(StandardScaler(), RidgeClassifier(PENALTY)).fit(learnt[others], labels[others])
        found[fold] = head.predict(judged[fold])
    return 100 * float(balanced_accuracy_score(labels, found))
