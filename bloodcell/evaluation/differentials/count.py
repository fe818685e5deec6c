"""The verb `differential`: the share of each class among the white cells of slides, with intervals.

The folder gets cells.csv, a row for each cell; differential.csv, a row for each slide and class; slides.csv, a row for
each slide; and report.html. With corrections, confirmed.csv has a row for each cell on which a human has decided.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.corrections import Corrections, read_corrections
from bloodcell.evaluation.differentials.count_notes import decision_notes, notes_of, other_notes, picture_notes
from bloodcell.evaluation.differentials.count_text import text_of
from bloodcell.evaluation.differentials.slide_cells import cells_of, has_cells, origin_of, with_decisions
from bloodcell.evaluation.differentials.slide_counts import SlideCount, count_slides, differential_table, slides_table
from bloodcell.evaluation.differentials.slide_names import slides_in
from bloodcell.inference.engine import Engine
from bloodcell.inference.predict import engines_of, threshold_of
from bloodcell.inference.tta import as_trained
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import (
    answer_words,
    checkpoint_words,
    command,
    continuation,
    keep_continuation,
    path_words,
    say_end,
)
from bloodcell.runtime.config import job_folder, listed, typed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.schema.verbs import DifferentialConfig


def run(cfg: DictConfig) -> Path:
    """Count in the folder that Hydra chose, and return it."""
    folder = job_folder()
    try:
        count(typed(cfg, DifferentialConfig), folder)
    except KeyboardInterrupt as error:
        more = () if "hydra.run.dir=" in command() else (f"hydra.run.dir={folder}",)
        keep_continuation(error, continuation(None, *more))
        raise
    return folder


def count(config: DifferentialConfig, folder: Path) -> list[SlideCount]:
    """Count the cells of slides, or go on after an interruption; the folder is new, or begun by the same command.

    The corrections may be others than before: cells that are predicted are counted anew with them, in the folder of a
    complete count, too.

    Raises:
        BloodcellError: The configuration or an input is wrong, or no picture can be read.
    """
    slides = slides_in(config.images, config.slide_regex)
    engines = engines_of(config)
    tta = as_trained(config.tta, [engine.tta for engine in engines])
    threshold = threshold_of(config.abstain_below, config.error_rate, engines, tta)
    corrections = _corrections(config, engines)
    origin = origin_of(config, engines, slides)
    _begin(config, folder, origin)
    cells, unmatched = with_decisions(cells_of(config, folder, engines, slides, origin), corrections, folder)
    confusion, unknown = confusion_of(engines, tta)
    with progress("counting"):
        fields = slides.fields(folder / "cells.bad.csv")
        counts = count_slides(cells, fields, confusion)
        write_csv(differential_table(counts), folder / "differential.csv")
        write_csv(slides_table(counts), folder / "slides.csv")
    notes = notes_of(counts, confusion, unknown, threshold) + picture_notes(slides, fields) + other_notes(cells)
    if corrections is not None:
        notes += decision_notes(cells, corrections, unmatched, slides.of_path, confusion)
    if config.report:
        from bloodcell.evaluation.differentials.count_report import write_report

        write_report(folder / "report.html", counts, notes, cells, slides.root, engines)
    run_folder.end_results(folder)
    for line in [*text_of(counts), *(f"note: {note}" for note in notes)]:
        say(line)
    checkpoint = [*checkpoint_words(listed(config.checkpoint)), *answer_words(config.classes)]
    images = path_words("images", listed(config.images))
    seen = [] if "number" not in cells else ["cells=all", "overlays=DIR"]
    look = folder / ("report.html" if config.report else "differential.csv")
    say_end(look, then=["predict", *images, *checkpoint, "output=FILE.csv", *seen])
    return counts


def _corrections(config: DifferentialConfig, engines: list[Engine]) -> Corrections | None:
    if config.corrections is None:
        return None
    return read_corrections(Path(config.corrections).expanduser(), engines[0].known)


def _begin(config: DifferentialConfig, folder: Path, origin: dict[str, Any]) -> None:
    """Make the folder, or take one with the same cells, and remove an earlier count of them."""
    again = config.corrections is not None and has_cells(folder, origin)
    run_folder.begin_results(folder, config, free=("corrections",), again=again)
    for name in ("differential.csv", "slides.csv", "confirmed.csv", "report.html"):
        (folder / name).unlink(missing_ok=True)


def confusion_of(engines: list[Engine], tta: str) -> tuple[Confusion | None, str]:
    """Return the confusions of what predicts with a test-time augmentation; if they are unknown, why."""
    first = engines[0]
    if len(engines) > 1:
        return None, "they are not kept for the mean of several classifiers"
    if first.left_out:
        return None, "those that a checkpoint keeps are of all its classes, and classes=... leaves some out"
    if first.confusion is None:
        whose = "this checkpoint" if first.classifier is not None else "an exported file"
        return None, f"{whose} does not keep them; a run of this release, whose val sources are unseen, does"
    if tta != first.tta:
        return None, f"they are kept for tta={first.tta}, and this is tta={tta}"
    return first.confusion, ""
