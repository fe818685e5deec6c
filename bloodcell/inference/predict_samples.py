"""The predictions tables of a samples table, by one classifier or by each of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.inference.engine import NOT_FINITE, Engine, Prediction
from bloodcell.inference.ensemble import GROUP, Ensemble
from bloodcell.inference.features import Progress
from bloodcell.inference.tta import as_trained, symmetries
from bloodcell.metrics.predictions import predictions_table
from bloodcell.runtime import distributed
from bloodcell.runtime.console import progress
from bloodcell.runtime.errors import BloodcellError


def predict_samples(
    engines: Sequence[Engine], samples: Samples, tta: str | None = None, threads: int | None = None
) -> list[list[pd.DataFrame]]:
    """Return each classifier's predictions tables: with test-time augmentation and, if there is any, without.

    `tta` is none, flips or d4; None: that of the training.

    Classifiers without kept features share the decoding.

    Raises:
        BloodcellError: An image cannot be read, or a net has no finite answer for it.
    """
    tta = as_trained(tta, [engine.tta for engine in engines])
    streamed = [engine for engine in engines if not engine.keeps_features]
    tables: dict[int, list[pd.DataFrame]] = {}
    with progress("predicting") as advance:
        for engine in engines:
            if engine.extractor is not None and engine.keeps_features:
                rows, cells = engine.extractor.rows(samples, symmetries(tta), advance)
                found = engine.predict_features(rows)
                if not found.finite.all():
                    raise BloodcellError(f"{samples.paths()[int(found.finite.argmin())]}: {NOT_FINITE}")
                tables[id(engine)] = _tables(samples, engine.classes, [found], cells, tta)
        if streamed:
            of_each = _from_images(streamed, samples, tta, threads, advance)
            tables |= zip(map(id, streamed), of_each, strict=True)
    return [tables[id(engine)] for engine in engines]


def _from_images(
    engines: list[Engine], samples: Samples, tta: str, threads: int | None, advance: Progress
) -> list[list[pd.DataFrame]]:
    files, ensemble = samples.paths(), Ensemble(engines, tta)
    groups = distributed.share([files[start : start + GROUP] for start in range(0, len(files), GROUP)])
    members: list[list[Prediction]] = [[] for _ in engines]
    cells: list[str] = []
    for group in distributed.in_turn(ensemble.predict(groups, len(files) * len(ensemble.symmetries), threads)):
        for file, reason in group.bad:
            raise BloodcellError(f"{file}: {reason}")
        for member, prediction in zip(members, group.members, strict=True):
            member.append(prediction)
        cells += group.cells
        advance(len(cells), len(files))
    without = [""] * len(cells)
    return [
        _tables(samples, ensemble.classes, member, cells if engine.preprocessing.crops_cell else without, tta)
        for engine, member in zip(engines, members, strict=True)
    ]


def _tables(
    samples: Samples, classes: list[str], predictions: list[Prediction], cells: list[str], tta: str
) -> list[pd.DataFrame]:
    """Return the table of the averaged probabilities of consecutive groups, then that of the plain ones."""
    rows, nothing = samples.table.assign(cell=cells), np.empty((0, len(classes)))
    averaged = np.concatenate([nothing, *(one.probabilities for one in predictions)])
    if tta == "none":
        return [predictions_table(rows, classes, averaged)]
    plain = np.concatenate([nothing, *(one.plain for one in predictions)])
    return [predictions_table(rows, classes, one) for one in (averaged, plain)]
