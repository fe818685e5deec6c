"""The predictions tables of parts of the data, by a net or an exported file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.samples import Samples
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import GROUP, Jury
from bloodcell.inference.tta import judgement
from bloodcell.metrics.predictions import predictions_table
from bloodcell.runtime import distributed
from bloodcell.runtime.console import progress
from bloodcell.runtime.errors import BloodcellError


def predict_splits(extractor: Any, classes: list[str], samples: Samples, splits: list[str]) -> list[pd.DataFrame]:
    """Return the predictions table of some splits, and where it is a mean over symmetries, that of the identity alone.

    Args:
        extractor: The `Extractor` of the classifier's net.
        classes: The classifier's classes.
        samples: The samples.
        splits: Which of them.
    """
    part = samples.of_split(*splits)
    with progress("predicting") as advance:
        probabilities, cells = extractor.predict(part, advance)
    rows, temperature = part.table.assign(cell=cells), extractor.net.temperature
    looked_at = [probabilities, probabilities[:1]] if len(probabilities) > 1 else [probabilities]
    return [predictions_table(rows, classes, judgement(several, temperature)) for several in looked_at]


def judge_splits(
    engine: Engine, samples: Samples, splits: list[str], tta: str, threads: int | None
) -> list[pd.DataFrame]:
    """Return what `predict_splits` does, of the engine of an exported file, which keeps no features.

    Args:
        engine: The engine.
        samples: The samples.
        splits: Which of them.
        tta: The symmetries that are averaged over.
        threads: That decode; None: as the machine has cores.

    Raises:
        BloodcellError: An image cannot be read.
    """
    part = samples.of_split(*splits)
    files = part.paths()
    groups = distributed.share([files[start : start + GROUP] for start in range(0, len(files), GROUP)])
    tables = []
    for looked_at in dict.fromkeys([tta, "none"]):
        chances, cells = [np.empty((0, len(engine.classes)))], []
        with progress("predicting") as advance:
            for group in distributed.in_turn(Jury([engine], looked_at).judge(groups, len(files), threads)):
                for file, reason in group.bad:
                    raise BloodcellError(f"{file}: {reason}")
                chances.append(group.probabilities)
                cells += group.cells
                advance(len(cells), len(files))
        tables.append(predictions_table(part.table.assign(cell=cells), engine.classes, np.concatenate(chances)))
    return tables
