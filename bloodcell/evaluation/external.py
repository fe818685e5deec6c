"""Judging predictions that any system may have made: a file of them is evaluated as a checkpoint's are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bloodcell.data.readers import absolute, existing_folder
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.evaluation.comparison import compare
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import chosen_splits, conclude, record_test_reads
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import cache_root, listed
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_json
from bloodcell.runtime.schema.verbs import EvaluateConfig


def check_systems(config: EvaluateConfig) -> None:
    """Refuse a choice of systems that does not go together.

    Raises:
        BloodcellError: Checkpoint and predictions are both given, or neither; a choice for what a file of predictions
            holds already; or one system is to be compared, or several files of predictions are not.
    """
    files, checkpoints = listed(config.predictions), listed(config.checkpoint)
    if (config.predictions is None) == (config.checkpoint is None):
        given = "neither is" if config.predictions is None else "both are"
        raise BloodcellError(f"{given} given: choose checkpoint=RUN, or predictions=FILE.csv of any system")
    made = {"tta": config.tta != "none", "adapt": config.adapt != "none", "data": config.data.kind != "as_trained"}
    if files and any(made.values()):
        extra = ", ".join(f"{name}=..." for name, chosen in made.items() if chosen)
        raise BloodcellError(f"predictions={config.predictions} are made and labelled already; leave out {extra}")
    if config.compare and len(files or checkpoints) < 2:
        raise BloodcellError("compare=true wants two or more: checkpoint=[A,B], or predictions=[A.csv,B.csv]")
    if len(files) > 1 and not config.compare:
        raise BloodcellError("several files of predictions are compared, not averaged; add compare=true, or give one")


def judge(config: EvaluateConfig, folder: Path) -> dict[str, Any]:
    """Evaluate a file of predictions, or compare several.

    Args:
        config: The verb's configuration. `data.root` says where the images are, of which the
            worst failures are shown; else they are sought beside the file.
        folder: Where it goes; a new one.

    Returns:
        The content of metrics.json; of a comparison, the figures by file.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    beside = config.compare
    files = [absolute(str(one)) for one in listed(config.predictions)]
    if len(set(files)) < len(files):
        raise BloodcellError(f"predictions: one is named twice in {', '.join(map(str, files))}; name each once")
    file = files[0]
    root = existing_folder(config.data.root) if config.data.root else file.parent
    tables = {one: read_predictions(one) for one in files}
    samples = Samples(tables[file].reindex(columns=COLUMNS, fill_value=""), root)
    splits = chosen_splits(samples, config.splits)
    samples = samples.of_split(*splits)
    run_folder.refuse_used(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {one: table[table["split"].isin(splits)].reset_index(drop=True) for one, table in tables.items()}
    for one in files:
        record_test_reads(cache_root(config.cache.root), samples, splits, one)
    if beside:
        metrics = compare(chosen, folder, frozenset())
    else:
        found, origin = _found(samples, config.figures), Origin(str(file)) if config.report else None
        metrics = conclude({file: [chosen[file]]}, folder, config.figures, frozenset(), found, origin)
    given = [str(one) for one in files] if beside else str(file)
    write_json({"predictions": given, "compare": beside, "command": run_folder.command()}, folder / "evaluation.json")
    say(f"results in {folder}")
    return metrics


def _found(samples: Samples, figures: bool) -> Path | None:
    """Return the folder of the images; None, which is said, where one is not in it."""
    missing = sum(not os.path.isfile(path) for path in samples.paths())  # noqa: PTH113 - odd names are no error
    if missing and figures:
        count = f"{missing:,} of {len(samples.table):,} images are"
        say(f"no pictures of the failures: {count} not in {samples.root}; say where they are with data.root=DIR")
    return None if missing else samples.root
