"""From predictions to what is said of them: which parts are judged, what is written, and who looked at a test part."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from bloodcell.data.samples import Samples, digest
from bloodcell.evaluation.comparison import write_gain
from bloodcell.evaluation.failures import write_failures
from bloodcell.evaluation.outputs import write_evaluation, write_members
from bloodcell.evaluation.report import Origin, report
from bloodcell.metrics.by_source import lines
from bloodcell.metrics.predictions import averaged
from bloodcell.runtime import run_folder
from bloodcell.runtime.config import listed
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically, write_json
from bloodcell.runtime.locks import locked


def chosen_splits(samples: Samples, asked: list[str] | None) -> list[str]:
    """Return the splits to evaluate: those asked for, else all but train.

    Raises:
        BloodcellError: One is not there, or none is left.
    """
    present = samples.splits()
    splits = listed(asked) if asked else [split for split in present if split != "train"]
    if missing := [split for split in splits if split not in present]:
        raise BloodcellError(f"splits={missing} are not in the data; it has {', '.join(present)}")
    if not splits:
        raise BloodcellError("the data has only a train part; evaluate it with splits=[train]")
    return splits


def conclude(
    predicted: dict[Path, list[pd.DataFrame]],
    folder: Path,
    figures: bool,
    trained_on: frozenset[str],
    root: Path | None,
    origin: Origin | None,
) -> dict[str, float]:
    """Average the members' predictions, write what they come to and what the averages gain, and say it.

    Args:
        predicted: Checkpoint -> what `predict_splits` returns.
        folder: Where it goes.
        figures: Draw confusion matrices, and pictures of the failures.
        trained_on: Sources of the training images of all members.
        root: What the images' paths are relative to; None: they are not there, so failures have no pictures.
        origin: How the predictions came about, for report.html; None: it is not wanted.
    """
    predictions = averaged([tables[0] for tables in predicted.values()])
    others = {}
    if any(len(tables) > 1 for tables in predicted.values()):
        others["tta=none"] = averaged([tables[-1] for tables in predicted.values()])
    if len(predicted) > 1:
        members = {str(checkpoint): tables[0] for checkpoint, tables in predicted.items()}
        write_members(members, folder / "members.csv", trained_on)
        others |= members
    metrics = write_evaluation(predictions, folder, figures, trained_on)
    write_failures(predictions, root, folder, figures)
    write_json(metrics, folder / "metrics.json")
    if origin:
        report(predictions, folder / "report.html", origin, trained_on, root)
    for line in [*lines(metrics), *write_gain(predictions, others, folder, trained_on)]:
        say(line)
    return metrics


def record_test_reads(cache: Path, samples: Samples, splits: list[str], by: Path) -> None:
    """Append each reading of a test part to test_reads.csv, so that a user sees how often it was looked at.

    Args:
        cache: The cache root.
        samples: The samples.
        splits: Which parts were read.
        by: The run folder or checkpoint that read them.
    """
    rows = []
    for split in splits:
        if split.startswith("test"):
            part = samples.of_split(split)
            rows.append(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "split": split,
                    "images": len(part.table),
                    "digest": digest(part),
                    "root": str(part.root.absolute()),
                    "by": str(by.absolute()),
                    "command": run_folder.command(),
                }
            )
    if not rows:
        return
    file = cache / "test_reads.csv"
    with locked(cache / ".test_reads.lock"):
        before = file.read_bytes() if file.exists() else b""
        lines = pd.DataFrame(rows).to_csv(index=False, header=not before, lineterminator="\n").encode()
        write_atomically(file, lambda temporary: temporary.write_bytes(before + lines))
