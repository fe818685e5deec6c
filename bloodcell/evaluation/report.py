"""The page of an evaluation: what the classifier can be trusted with, on what that rests, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.evaluation import verdict
from bloodcell.evaluation.failures import failures_of
from bloodcell.evaluation.gallery import Exhibit
from bloodcell.evaluation.outputs import figures_of
from bloodcell.evaluation.report_charts import history_charts, ranking_charts, reliability_chart, risk_chart
from bloodcell.metrics.abstention import CONFIDENCE, risk_coverage
from bloodcell.metrics.by_class import scores_by_class
from bloodcell.metrics.by_source import sources_known, with_disjoint
from bloodcell.metrics.cross_fit import conformal_outcomes, judging_of, kept_promises
from bloodcell.metrics.predictions import classes_of, confusion_of, metrics_of
from bloodcell.metrics.reliability import reliability
from bloodcell.metrics.roc import rankings_of
from bloodcell.runtime.html import write_page

#: Rows that a list in the page has at most; the whole is in a file beside it.
MOST = 20
#: What the images of a split are called.
NAMES = {
    "train": "training images",
    "val": "validation images",
    "test": "test images",
    "test_simple": "simple test images",
}


def write_report(
    predictions: pd.DataFrame,
    file: Path,
    *,
    title: str,
    trained_on: frozenset[str] = frozenset(),
    exhibits: Sequence[Exhibit] = (),
    suspects: pd.DataFrame | None = None,
    suspect_exhibits: Sequence[Exhibit] = (),
    notes: Iterable[str] = (),
    history: pd.DataFrame | None = None,
    temperature: float | None = None,
) -> None:
    """Write the page; it asks for nothing from elsewhere.

    Args:
        predictions: The predictions table; one row at least.
        file: Where to.
        title: What was evaluated.
        trained_on: Sources of the training images, so far as they are known.
        exhibits: Pictures of the worst errors.
        suspects: Labels that may be wrong, the worst first, as `suspected_labels` finds them.
        suspect_exhibits: Pictures of them.
        notes: Lines on how the predictions came about.
        history: A run's history.csv, an epoch a row.
        temperature: By which the logits were divided.
    """
    parts = with_disjoint(predictions, trained_on)
    names = {part: name_of(part) for part in parts}
    metrics = all_metrics(predictions, parts, trained_on)
    shown = shown_parts(list(parts))
    sections = [section(part, parts[part]) for part in shown]
    judging = judging_of(parts, shown[0], trained_on)
    kept = judging and kept_promises(judging)
    write_page(
        file,
        "bloodcell.evaluation",
        "report.html",
        title=title,
        verdict=_verdict(parts[shown[0]], _of_part(metrics, shown[0]), sections[0], kept, trained_on),
        warnings=[
            *verdict.doubts({names[part]: rows for part, rows in parts.items() if "[" not in part}, trained_on),
            *verdict.few(_of_part(metrics, shown[0]), sections[0]["scores"]),
        ],
        notes=list(notes),
        overview=[{"part": part, "name": names[part], **_of_part(metrics, part)} for part in parts],
        sections=sections,
        judging=judging,
        kept=kept,
        confidence=CONFIDENCE,
        sets=judging and conformal_outcomes(judging),
        risk=judging and risk_chart(risk_coverage(judging.rows), kept or []),
        exhibits=exhibits,
        failing=_failing(parts[shown[0]]),
        suspects=suspects,
        suspect_exhibits=suspect_exhibits,
        history=None if history is None else history_charts(history),
        temperature=temperature,
        most=MOST,
        reliable=verdict.RELIABLE,
    )


def main_rows(predictions: pd.DataFrame, trained_on: frozenset[str]) -> pd.DataFrame:
    """Return the rows that the verdict is of; see `shown_parts`."""
    parts = with_disjoint(predictions, trained_on)
    return parts[shown_parts(list(parts))[0]]


def all_metrics(
    predictions: pd.DataFrame, parts: dict[str, pd.DataFrame], trained_on: frozenset[str]
) -> dict[str, float]:
    """Return what metrics.json has, and what it lacks of the parts of unseen sources."""
    unseen = [rows.assign(split=part) for part, rows in parts.items() if part.endswith("_disjoint")]
    return (metrics_of(pd.concat(unseen)) if unseen else {}) | figures_of(predictions, trained_on)


def name_of(part: str) -> str:
    """Return what the images of a part are called: those of `test[mine]` test images of mine."""
    split, _, of_set = part.removesuffix("_disjoint").partition("[")
    name = NAMES.get(split, f"{split} images") + (f" of {of_set.removesuffix(']')}" if of_set else "")
    return f"{name} of unseen sources" if part.endswith("_disjoint") else name


def shown_parts(parts: Sequence[str]) -> list[str]:
    """Return the parts that are shown in detail, that which the verdict is of first.

    It is the first test part, of which the images of unseen sources alone where some are of others. Single data sets
    are in the overview.
    """
    whole = [part for part in parts if "[" not in part and f"{part}_disjoint" not in parts]
    return sorted(whole, key=lambda part: not part.startswith("test"))


def section(part: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what is shown of a part in detail."""
    classes = classes_of(rows)
    found, matrix, rankings = reliability(rows), confusion_of(rows, classes), rankings_of(rows, classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return {
        "part": part,
        "name": name_of(part),
        "classes": classes,
        "known": sources_known(rows),
        "scores": scores_by_class(rows, classes),
        "confusion": [
            {"name": name, "cells": list(zip(matrix[row].tolist(), shares[row].tolist(), strict=True))}
            for row, name in enumerate(classes)
        ],
        "rankings": [{"ranking": ranking, **ranking_charts(ranking)} for ranking in rankings],
        "reliability": found,
        "confidence": float(found.share @ found.confidence),
        "reliability_chart": reliability_chart(found),
    }


def _verdict(
    rows: pd.DataFrame, figures: dict[str, float], main: dict[str, Any], kept: Any, trained_on: frozenset[str]
) -> dict[str, Any]:
    """Return the lines of the verdict, and the classes sorted by what they can be trusted with."""
    unseen = bool(trained_on - {""}) and not rows["source"].isin(trained_on).any()
    return {
        "first": verdict.accuracy_line(figures, main["name"], unseen),
        "further": [
            verdict.baseline_line(rows),
            verdict.certainty_line(main["confidence"], figures["accuracy"], main["reliability"].ece),
            verdict.abstention_line(kept, main["known"]),
        ],
        "trust": verdict.trust_of(main["scores"]),
    }


def _of_part(metrics: dict[str, float], part: str) -> dict[str, float]:
    """Return the metrics of one part by their own names."""
    return {key.removeprefix(f"{part}/"): value for key, value in metrics.items() if key.startswith(f"{part}/")}


def _failing(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return the sources without an image that is right, those of most images first; None where they are unknown."""
    if not sources_known(rows):
        return None
    right = set(rows.loc[rows["label"] == rows["prediction"], "source"])
    failures = failures_of(rows)
    whole = failures[~failures["source"].isin(right)].sort_values("images", ascending=False, kind="stable")
    listed = whole[:MOST].to_dict("records")
    return {"all": rows["source"].nunique(), "sources": whole["source"].nunique(), "rows": listed}


#: Errors of which a picture is shown, and suspected labels.
PICTURES = 12


@dataclass(frozen=True)
class Origin:
    """How predictions came about, for their page.

    Attributes:
        title: What predicted.
        classifier: Where it looked is shown in the pictures; None: there are several, or none is known.
        temperature: By which its probabilities are calibrated; 1 where they are not.
        notes: What else a reader ought to know.
        history: Its history.csv, where this is the end of its training.
    """

    title: str
    classifier: Any = None
    temperature: float = 1.0
    notes: tuple[str, ...] = ()
    history: pd.DataFrame | None = None


def report(
    predictions: pd.DataFrame,
    file: Path,
    origin: Origin,
    trained_on: frozenset[str],
    root: Path | None,
    suspects: pd.DataFrame | None = None,
) -> None:
    """Write the page.

    Args:
        predictions: The predictions table.
        file: Where to, in an existing folder.
        origin: How they came about.
        trained_on: Sources of the training images, so far as they are known.
        root: What the images' paths are relative to; None: they are not there, so the page has no pictures.
        suspects: Labels that may be wrong, as `suspected_labels` finds them; None: nothing can be said of them.
    """
    from bloodcell.evaluation.gallery import exhibits, worst_errors

    worst = worst_errors(main_rows(predictions, trained_on), PICTURES)
    doubtful = predictions[:0] if suspects is None else _images_of(suspects[:PICTURES], predictions)
    write_report(
        predictions,
        file,
        title=origin.title,
        trained_on=trained_on,
        exhibits=() if root is None else exhibits(worst, root, origin.classifier),
        suspects=suspects,
        suspect_exhibits=() if root is None else exhibits(doubtful, root, origin.classifier),
        notes=origin.notes,
        history=origin.history,
        temperature=None if origin.temperature == 1 else origin.temperature,
    )


def _images_of(suspects: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the row of the predictions table of each suspected label's picture."""
    pictures = predictions.drop_duplicates(["path", "label"])
    return suspects[["path", "label"]].merge(pictures, on=["path", "label"])
