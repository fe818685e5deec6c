"""The page's summary of its classifier: training data, accuracy, and when an answer is sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloodcell.audits.overlap import training_samples
from bloodcell.evaluation.verdict import accuracy_line
from bloodcell.inference import reader
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.fields.choice import least_size, unknown_extent
from bloodcell.inference.predict import threshold_of
from bloodcell.metrics.summary import parts_in, read_metrics
from bloodcell.runtime import run_folder
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.html import count, percent

#: The error rate that is asked of a checkpoint if none is named, and the threshold if it promises none.
ERROR_RATE, USUAL = 0.05, 0.8
#: Part of a run's figures -> what its images are called; the first that is there comes first.
PARTS = {"test_disjoint": "test images of sources not in training", "test": "test images", "val": "validation images"}


def about(ensemble: Ensemble, cells: str) -> dict[str, Any]:
    """Return what the page's template says of a classifier that looks for `cells` in an image: one, all or auto."""
    several, known = len(ensemble.engines), [engine.limits for engine in ensemble.engines if engine.limits is not None]
    mean = f"An answer is the mean of {several} classifiers."
    measured = "evaluate.py measures its accuracy from the same checkpoints."
    return {
        "classes": ensemble.classes,
        "cells": cells,
        "localises": any(one.crops_cell for one in ensemble.preprocessings),
        "least_size": percent(least_size(ensemble.engines), 0),
        "unknown_extent": unknown_extent(ensemble.engines),
        "flagged": f"{100 * max((limits.flagged for limits in known), default=0):.0f}",
        "knows_limits": len(known) == several,
        "provisional": any(limits.provisional for limits in known),
        "lines": ([f"{mean} {measured}"] if several > 1 else _of_one(ensemble.engines[0])) + _of_answers(ensemble),
    }


def _of_answers(ensemble: Ensemble) -> list[str]:
    """Return a line if only some classes may be answered."""
    if not ensemble.left_out:
        return []
    answered, others = named(ensemble.classes), named(ensemble.left_out)
    return [
        f"It answers only {answered}, as asked; a cell of which it is sure that it is {others} is flagged. What was "
        "measured or promised is of answers by all its classes."
    ]


def _of_one(engine: Engine) -> list[str]:
    if engine.file == reader.FILE:
        return [f"It is the package's own reader; {reader.CARD} has its data and its figures at other laboratories."]
    folder = run_folder.run_of(engine.file) if engine.file else None
    samples = training_samples(engine.file) if engine.file else None
    lines = []
    if samples is not None:
        known = f" of {count(samples.table['source'].nunique())} sources" if samples.sources_known() else ""
        lines.append(f"It learnt from {count(len(samples.table))} images{known}.")
    figures = figure_lines(folder) if folder else []
    return lines + (figures or ["Its accuracy is not known here: its run folder is not beside it."])


def figure_lines(folder: Path) -> list[str]:
    """Return a line for each evaluated part of a run; none if its metrics.json cannot be read."""
    parts = parts_in(read_metrics(folder))
    known = {part: name for part, name in PARTS.items() if "images" in parts.get(part, {})}
    return [accuracy_line(parts[part], name, unseen=False) for part, name in known.items()]


def sureness(abstain_below: Any, error_rate: Any, engines: list[Engine], tta: str) -> tuple[float, str]:
    """Return the confidence below which an answer is not sure, and where that comes from.

    As `bloodcell.inference.predict.threshold_of`; if neither `abstain_below` nor `error_rate` is given, that of
    `ERROR_RATE` if the classifiers promise it, else `USUAL`.
    """
    asked = abstain_below is not None or error_rate is not None
    rate = error_rate if asked else ERROR_RATE
    try:
        threshold = threshold_of(abstain_below, rate, engines, tta)
    except BloodcellError:
        if asked:
            raise
        promised = "for some classes alone" if engines[0].left_out else f"with tta={tta}"
        threshold, why = USUAL, f"a usual choice, as {percent(ERROR_RATE, 0)} errors are not promised {promised}"
    else:
        promise = "so that at most {} of the sure answers are wrong, on images like those of its validation"
        why = "as abstain_below says" if rate is None else promise.format(percent(rate, 0))
    return threshold, f"An answer is called sure from {short(threshold)} probability, {why}."


def short(share: float) -> str:
    """Return a share as a percentage of three digits at most: 80 %, 93.2 %."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"
