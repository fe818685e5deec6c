"""The files of an evaluation: predictions, metrics, reports, figures and failures."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.classes import missing_classes
from bloodcell.data.samples import Samples, digest
from bloodcell.evaluation.comparison import write_comparison, write_gain
from bloodcell.evaluation.failures import failures_of
from bloodcell.evaluation.report import Origin, write_report
from bloodcell.metrics.by_source import groups_of
from bloodcell.metrics.predictions import averaged, classes_of, report_of, splits_of
from bloodcell.metrics.predictions_csv import write_predictions
from bloodcell.metrics.summary import lines, metrics_of
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import answer_words, command, prediction_by, say_end
from bloodcell.runtime.config import listed
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically, write_csv, write_json, write_text
from bloodcell.runtime.locks import locked
from bloodcell.runtime.schema.checks import figure_formats
from bloodcell.runtime.schema.verbs import EvaluateConfig

#: What goes on after the predictions.
JUDGING = "metrics, figures, report"


def chosen_splits(samples: Samples, asked: list[str] | None) -> list[str]:
    """Return the splits to evaluate: those that are asked for, else all but train.

    Raises:
        BloodcellError: One is not in the data, or only train is.
    """
    present = samples.splits()
    splits = listed(asked) if asked else [split for split in present if split != "train"]
    if missing := [split for split in splits if split not in present]:
        raise BloodcellError(f"splits={missing} are not in the data; it has {', '.join(present)}")
    if not splits:
        raise BloodcellError("the data has only a train part; evaluate it with splits=[train]")
    return splits


def write_results(
    folder: Path,
    predictions: pd.DataFrame,
    *,
    trained_on: frozenset[str] = frozenset(),
    root: Path | None = None,
    figures: Any = True,
    origin: Origin | None = None,
    report: bool = True,
    others: dict[str, pd.DataFrame] | None = None,
    members: dict[str, pd.DataFrame] | None = None,
    more: dict[str, float] | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Write all results of one system, and return its metrics and the lines to print.

    Args:
        folder: An existing folder.
        predictions: The predictions table.
        trained_on: Sources of the training images, for the metrics on unseen sources.
        root: The folder of the images; None: they are not there, and no picture of one is shown.
        figures: Draw confusions, scores, calibration, curves and failures: true as PNG, or a list of png, pdf and svg.
        origin: How the predictions were made; None: there is no report.
        report: Write report.html.
        others: Name -> predictions table of each system that it is compared with in gain.json.
        members: Checkpoint -> predictions table of each member of an ensemble, for members.csv.
        more: Further content of metrics.json.
    """
    metrics = metrics_of(predictions, trained_on) | (more or {})
    failures = failures_of(predictions)
    write_predictions(predictions, folder / "predictions.csv")
    write_csv(failures, folder / "failures.csv")
    _write_groups(predictions, folder)
    _write_class_reports(predictions, folder)
    if formats := figure_formats(figures):
        from bloodcell.evaluation.figure_files import write_figures

        seen = origin.preprocessing if origin else None
        write_figures(predictions, failures, folder / "figures", formats, root, seen)
    if members:
        rows = [{"checkpoint": name, **metrics_of(table, trained_on)} for name, table in members.items()]
        write_csv(pd.DataFrame(rows), folder / "members.csv")
    gains = write_gain(predictions, others or {}, folder, trained_on)
    write_json(metrics, folder / "metrics.json")
    if origin and report:
        write_report(predictions, folder / "report.html", origin, trained_on, root)
    return metrics, [*lines(metrics, origin.compared if origin else 1), *gains]


def _write_groups(predictions: pd.DataFrame, folder: Path) -> None:
    """Write groups.csv, a row for each patient, slide or photograph of a split, if sources are these."""
    groups = {split: groups_of(rows) for split, rows in predictions.groupby("split", sort=False)}
    if found := [rows.assign(split=split) for split, rows in groups.items() if not rows.empty]:
        write_csv(pd.concat(found), folder / "groups.csv")


def _write_class_reports(predictions: pd.DataFrame, folder: Path) -> None:
    classes, splits = classes_of(predictions), splits_of(predictions)
    text = "\n".join(f"{split}\n{report_of(rows, classes)}" for split, rows in splits.items())
    write_text(text, folder / "classification_report.txt")
    reports = {split: report_of(rows, classes, as_dict=True) for split, rows in splits.items()}
    write_json(reports, folder / "classification_report.json")


def write_evaluation(
    config: EvaluateConfig,
    folder: Path,
    predicted: dict[Path, list[pd.DataFrame]],
    record: dict[str, Any],
    *,
    trained_on: frozenset[str],
    root: Path | None,
    origin: Origin,
) -> dict[str, Any]:
    """Write and print the results of `evaluate`, of the mean of several systems or, with `compare`, of each.

    `predicted` has for each checkpoint or file its predictions table and, if there was test-time augmentation, that
    without it. `record` is the input, for evaluation.json. The folder exists; `trained_on`, `root` and `origin` are as
    in `write_results`. The content of metrics.json is returned.
    """
    tables = {str(path): table for path, (table, *_) in predicted.items()}
    metrics: dict[str, Any]
    members = tables if len(tables) > 1 else {}
    plain = [both[-1] for both in predicted.values() if len(both) > 1]
    others = {"tta=none": averaged(plain), **members} if plain else members
    with progress(JUDGING):
        if config.compare:
            metrics, printed = write_comparison(tables, folder, trained_on, origin.compared)
        else:
            metrics, printed = write_results(
                folder, averaged(list(tables.values())), trained_on=trained_on, root=root, figures=config.figures,
                origin=origin, report=config.report, others=others, members=members,
            )  # fmt: skip
    record = {**record, "compare": config.compare, "command": command()}
    write_json(record, folder / "evaluation.json")
    run_folder.end_results(folder)
    first = next(iter(tables.values()))
    for line in [*printed, *missing_classes(first, classes_of(first))]:
        say(line)
    page = folder / ("comparison.csv" if config.compare else "report.html" if config.report else "metrics.json")
    checkpoints = [] if config.compare else listed(config.checkpoint)
    then = [*prediction_by(checkpoints), *answer_words(config.classes)] if checkpoints else []
    say_end(page, then=then)
    return metrics


def test_reads(cache: Path, samples: Samples, splits: list[str]) -> list[str]:
    """Return a sentence on each test part of `splits` that was read: how often so far, and by how many classifiers."""
    file, found = cache / "test_reads.csv", []
    if not file.is_file():
        return []
    try:
        read = pd.read_csv(file, dtype=str, keep_default_na=False)[["split", "digest", "by"]]
    except (ValueError, KeyError):
        return [f"how often the test part was read is not known: {file} is damaged"]
    for split in (split for split in splits if split.startswith("test")):
        same = read[(read["split"] == split) & (read["digest"] == digest(samples.of_split(split)))]
        if len(same) > 1:  # once is what a test part is for
            found.append(
                f"the {split} part was read {counted(len(same), 'time')} so far, this one included, by "
                f"{counted(same['by'].nunique(), 'classifier')}; a choice by it makes its figures optimistic"
            )
    return found


def recipes_compared(run: Path | None) -> list[str]:
    """Return a sentence on the leaderboard that a run is on; none if there is none."""
    file = run.parent / "leaderboard.csv" if run else None
    try:
        jobs = len(pd.read_csv(file)) if file and file.is_file() else 1
    except ValueError:
        return [f"how many trainings were compared is not known: {file} is damaged"]
    text = f"it is one of {jobs:,} trainings that leaderboard.csv compares; if it is the best of them, its validation "
    return [f"{text}figures are optimistic, and nothing here is corrected for that"] if jobs > 1 else []


def record_test_reads(cache: Path, samples: Samples, splits: list[str], readers: Iterable[Path]) -> None:
    """Append each reading of a test part to test_reads.csv, so that a user sees how often it was looked at.

    The readers are run folders, checkpoints or files of predictions.
    """
    parts = {split: samples.of_split(split) for split in splits if split.startswith("test")}
    rows = [
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "split": split,
            "images": len(part.table),
            "digest": digest(part),
            "root": str(part.root.absolute()),
            "by": str((run_folder.run_of(by) or by).absolute()),
            "command": command(),
        }
        for by in readers
        for split, part in parts.items()
    ]
    if not rows:
        return
    file = cache / "test_reads.csv"
    with locked(cache / ".test_reads.lock"):
        before = file.read_bytes() if file.exists() else b""
        added = pd.DataFrame(rows).to_csv(index=False, header=not before, lineterminator="\n").encode()
        write_atomically(file, lambda temporary: temporary.write_bytes(before + added))
