"""Evaluation of predictions that any system may have made: files of them in place of checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bloodcell.data.readers import absolute, data_set_name, existing_folder
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.evaluation.own_images import folder_within
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import (
    chosen_splits,
    recipes_compared,
    record_test_reads,
    test_reads,
    write_evaluation,
)
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.metrics.summary import epochs_compared
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import cache_root, listed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import EvaluateConfig


def evaluate_files(config: EvaluateConfig, folder: Path) -> dict[str, Any]:
    """Evaluate a file of predictions, or compare several; write to a new folder and return the content of metrics.json.

    The images are in `data.root`, else beside the first file; the worst failures are shown.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    files = [absolute(str(one)) for one in listed(config.predictions)]
    if len(set(files)) < len(files):
        raise BloodcellError(f"predictions: one is named twice in {', '.join(map(str, files))}; name each once")
    root = existing_folder(config.data.root) if config.data.root else files[0].parent
    tables = {file: read_predictions(file) for file in files}
    samples = Samples(tables[files[0]].reindex(columns=COLUMNS, fill_value=""), root)
    splits = chosen_splits(samples, config.splits)
    samples = samples.of_split(*splits)
    run_folder.begin_results(folder, config)
    predicted = {file: [table[table["split"].isin(splits)].reset_index(drop=True)] for file, table in tables.items()}
    cache = cache_root(config.cache.root)
    record_test_reads(cache, samples, splits, files)
    given = [str(file) for file in files] if config.compare else str(files[0])
    found = None if config.compare else folder_within(samples, config.figures)
    notes = [*test_reads(cache, samples, splits), *recipes_compared(files[0].parent)]
    origin = Origin(
        given if isinstance(given, str) else ", ".join(given), notes=tuple(notes),
        compared=math.prod(epochs_compared(file.parent) for file in files), heading=config.report_title,
        data=data_set_name(samples) if config.data.root or samples.sets() else "",
    )  # fmt: skip
    record: dict[str, Any] = {"predictions": given}
    return write_evaluation(config, folder, predicted, record, trained_on=frozenset(), root=found, origin=origin)
