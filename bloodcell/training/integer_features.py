"""Features of training images in 8-bit integers: twice as fast, measured before a head learns from them.

Validation and test are in float32, as all predictions are: the figures of a run are those of the net that predicts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples, contents
from bloodcell.inference.features import Extractor
from bloodcell.inference.quantisation import IntegerBackbone, Measured, no_gain, relative_rate, what_is_wanted
from bloodcell.metrics.by_source import sources_of
from bloodcell.runtime import distributed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_json, write_json
from bloodcell.runtime.schema.data import INT8, FeaturesConfig

Array = np.ndarray[Any, np.dtype[Any]]

#: Most training images by which the accuracy is measured, and the parts that are judged in turn.
MOST, FOLDS = 4096, 5
#: Ridge penalty of the linear heads that are compared, on features of variance 1.
PENALTY = 1000.0
#: Least rate beside float32: below that of an export, as it varies by some 0.1 from one measurement to the next.
LEAST_RATE = 1.8
LEAVE_OUT = "leave features.precision=int8 out"


def training_extractor(features: FeaturesConfig, samples: Samples, extractor: Extractor) -> Extractor:
    """Return what computes the features of the training images: in integers if that is asked for, else `extractor`.

    What the integers gain and lose is measured once for the same images, labels and sources, and said.

    Args:
        features: The `features` group.
        samples: The images.
        extractor: That in float32.

    Raises:
        BloodcellError: Integers are not for this machine or net, or gain too little or lose too much.
    """
    if features.precision != INT8:
        return extractor
    _require_machine(extractor)
    train = samples.of_split("train")
    backbone = IntegerBackbone(extractor.net, extractor.preprocessing, train)
    integers = Extractor(extractor.net, extractor.preprocessing, backbone, extractor.root, extractor.threads)
    drawn = train.table.sample(min(MOST, len(train.table)), random_state=0).sort_index().reset_index(drop=True)
    some = Samples(drawn, train.root, train.white)
    file = extractor.store().folder / f"integers-{_key(backbone.name, some)}.json"
    known = _known(file)
    measured = known or _measured(extractor, integers, some)
    said = f"features of training images in integers: {measured} by cross-validation of a linear head"
    if not measured.accurate:
        raise BloodcellError(f"{said}; {what_is_wanted(LEAST_RATE)}; {LEAVE_OUT}")
    if not known:
        write_json(asdict(measured), file)
    say(said)
    return integers


def _require_machine(extractor: Extractor) -> None:
    """Raise a BloodcellError unless integers pay on this machine."""
    if extractor.backbone.device != "cpu" or distributed.here().size > 1:
        raise BloodcellError(
            f"features.precision=int8 is for one process without a GPU; set trainer.gpus=0, or {LEAVE_OUT}"
        )
    if no_gain():
        reason = "does not pay on this processor, which has no instruction for sums of products of 8-bit integers"
        raise BloodcellError(f"features.precision=int8 {reason}; {LEAVE_OUT}")
    _require_onnx(extractor)


def _require_onnx(extractor: Extractor) -> None:
    if extractor.backbone.backend != "onnx":
        raise BloodcellError(
            f"features.precision=int8 needs onnxruntime and onnxscript, and a net that they take; {LEAVE_OUT}"
        )


def _key(name: str, some: Samples) -> str:
    """Return a digest of all that the accuracy depends on."""
    table = some.table
    known = [name, contents(some), table["label"].tolist(), table["source"].tolist()]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _known(file: Path) -> Measured | None:
    """Return what was measured before; None if it was not, or the file is damaged."""
    try:
        return Measured(**read_json(file)) if file.is_file() else None
    except (ValueError, TypeError):
        return None


def _measured(extractor: Extractor, integers: Extractor, some: Samples) -> Measured:
    """Measure the rate, and if it suffices the accuracy on some training images."""
    float32 = extractor.backbone.forward().run
    _require_onnx(extractor)
    int8 = integers.backbone.forward().run
    with progress("measuring integers"):
        rate = relative_rate(float32, int8, extractor.preprocessing.image_size)
    if rate < LEAST_RATE:
        said = f"features of training images in integers: {rate:.2f} times the rate of float32"
        raise BloodcellError(f"{said}; {what_is_wanted(LEAST_RATE)}; {LEAVE_OUT}")
    with progress("features to compare") as report:
        seen = [np.asarray(one.features(some, report)[:]) for one in (extractor, integers)]
    before, after = (balanced_accuracy(one, seen[0], some.table) for one in seen)
    return Measured(rate, before, after, len(some.table))


def balanced_accuracy(learnt: Array, judged: Array, rows: pd.DataFrame) -> float:
    """Return the balanced accuracy, in percent, of linear heads on sources that they did not learn from.

    Args:
        learnt: Features that the heads learn from, (N, F).
        judged: Features of the same images by which they are judged, (N, F).
        rows: Their rows of a samples table. Classes with one source cannot be judged.

    Raises:
        BloodcellError: Fewer than two classes have two sources.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sources = sources_of(rows)
    each = sources.groupby(rows["label"]).nunique()
    chosen = rows["label"].isin(each[each > 1].index).to_numpy()
    if (each > 1).sum() < 2:
        raise BloodcellError(
            "features.precision=int8: what integers lose cannot be measured, as fewer than two classes have training "
            f"images of two sources; {LEAVE_OUT}"
        )
    labels, groups = rows["label"].to_numpy()[chosen], sources.to_numpy()[chosen]
    found = labels.copy()
    folds = StratifiedGroupKFold(min(FOLDS, int(each[each > 1].min())), shuffle=True, random_state=0)
    for others, fold in folds.split(learnt[chosen], labels, groups):
        head = make_pipeline(StandardScaler(), RidgeClassifier(PENALTY)).fit(learnt[chosen][others], labels[others])
        found[fold] = head.predict(judged[chosen][fold])
    return 100 * float(balanced_accuracy_score(labels, found))
