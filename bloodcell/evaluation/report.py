"""report.html of an evaluation: what the classifier can be trusted with, how sure that is, and its errors."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.evaluation import verdict
from bloodcell.evaluation.failures import failures_of, typical, worst_errors
from bloodcell.evaluation.gallery import Picture, pictures_of
from bloodcell.evaluation.report_charts import (
    decision_chart,
    history_charts,
    ranking_charts,
    reliability_chart,
    risk_chart,
)
from bloodcell.metrics.abstention import CONFIDENCE, joint_confidence, risk_coverage
from bloodcell.metrics.by_class import scores_by_class
from bloodcell.metrics.by_source import groups_of, rows_by_part, sources_known, sources_of
from bloodcell.metrics.confusions import confusions
from bloodcell.metrics.cross_fit import promise_results, set_results, threshold_test
from bloodcell.metrics.decision import decision_curve
from bloodcell.metrics.predictions import classes_of, confusion_of
from bloodcell.metrics.registry import Place, shown_in
from bloodcell.metrics.reliability import brier_score, ece_by_chance, reliability, tempered_table
from bloodcell.metrics.roc import rankings_of
from bloodcell.metrics.summary import metrics_of, parts_in, sources_for
from bloodcell.runtime.html import write_page

#: Most rows of a list in the report, whose whole is in a file beside it, and most pictures of errors and of labels.
MOST, PICTURES = 20, 12
#: Most rows of the table of patients, slides or photographs.
GROUPS = 50
#: Half of an interval's width, for which the report says how many sources it takes.
HALF_WIDTH = 0.05
#: What the images of a split are called, if not "SPLIT images".
NAMES = {"train": "training images", "val": "validation images", "test_simple": "simple test images"}


@dataclass(frozen=True)
class Origin:
    """How predictions were made, for their report."""

    title: str  # what made them: files or folders
    classifier: Any = None  # the net whose crops and Grad-CAM the pictures show; None: there are several, or none
    temperature: float = 1.0  # of its probabilities; 1 if they are not calibrated
    notes: tuple[str, ...] = ()  # what else a reader should know
    history: pd.DataFrame | None = None  # its history.csv, at the end of its training
    compared: int = 1  # classifiers among which the validation part chose it
    heading: str | None = None  # of the page; None: one with the name of the data set
    data: str = ""  # name of the data set; '' if it has none
    preprocessing: Preprocessing | None = None  # of the single net that made them; None: there are several, or none

    @property
    def shown_heading(self) -> str:
        """Heading of the page."""
        of = f" of {self.data}" if self.data else ""
        return self.heading or f"What this classifier{of} can be trusted with"


def write_report(
    predictions: pd.DataFrame,
    file: Path,
    origin: Origin,
    trained_on: frozenset[str] = frozenset(),
    root: Path | None = None,
    suspects: pd.DataFrame | None = None,
) -> None:
    """Write the report of a predictions table with at least one row: one file, which loads nothing.

    Without `root`, the folder of the images, it has no pictures. `trained_on` has the known sources of the training
    images, and `suspects` the labels that may be wrong, the worst first, as `suspected_labels` returns them.
    """
    parts, metrics = rows_by_part(predictions, trained_on), parts_in(metrics_of(predictions, trained_on))
    main, *further = shown_parts(parts)
    rows, first = parts[main], _section(main, parts[main], origin.temperature)
    test = threshold_test(parts, main, trained_on, origin.compared)
    promises = promise_results(test) if test else None
    unseen = bool(trained_on - {""}) and not rows["source"].isin(trained_on).any()
    images, key = predictions.drop_duplicates(["path", "label"]), ["path", "label"]
    doubtful = predictions[:0] if suspects is None else suspects[:PICTURES][key].merge(images, on=key)
    shown = [one.name for one in first["shown_scores"]]
    errors, right, doubted = (
        pictures_of(chosen, root, origin.classifier) if root else []
        for chosen in (worst_errors(rows, PICTURES), typical(rows, shown, PICTURES), doubtful)
    )
    write_page(
        file, "bloodcell.evaluation", "report.html",
        heading=origin.shown_heading,
        title=origin.title,
        data=origin.data,
        date=time.strftime("%Y-%m-%d"),
        verdict={
            "first": verdict.accuracy_line(metrics[main], first["name"], unseen),
            "further": [
                verdict.baseline_line(rows),
                verdict.confidence_line(
                    first["confidence"],
                    metrics[main]["accuracy"],
                    first["reliability"].ece,
                    first["by_chance"],
                    sources_of(rows).nunique() if first["known"] else None,
                ),
                verdict.abstention_line(promises, first["known"]),
            ],
            "trust": verdict.trust_of(first["scores"]),
        },
        warnings=[
            *verdict.choice_warnings({part: name_of(part) for part in parts}, origin.compared),
            *verdict.source_warnings({name_of(part): parts[part] for part in parts if "[" not in part}, trained_on),
            *verdict.few_warnings(metrics[main], first["scores"]),
        ],
        notes=origin.notes,
        columns=shown_in(Place.REPORT),
        overview=[{"part": part, "name": name_of(part), **metrics[part]} for part in parts],
        sections=[first, *(_section(part, parts[part], origin.temperature) for part in further)],
        wanted=sources_for(metrics[main], HALF_WIDTH),
        sizes=verdict.size_lines(first["shown_scores"]),
        half_width=HALF_WIDTH,
        test=test,
        promises=promises,
        confidence=CONFIDENCE,
        together=joint_confidence(len(promises or ())),
        sets=set_results(test) if test else None,
        risk=risk_chart(risk_coverage(rows), promises) if promises else None,
        examples=_by_class(right, errors),
        others=[one for one in right if one.label not in {error.label for error in errors}],
        groups=groups_of(rows)[:GROUPS].to_dict("records"),
        group_count=rows["source"].nunique(),
        failing=_failing(rows),
        suspects=suspects,
        doubtful=doubted,
        history=None if origin.history is None else history_charts(origin.history),
        temperature=None if origin.temperature == 1 else origin.temperature,
        most=MOST,
        reliable=verdict.RELIABLE,
    )  # fmt: skip


def name_of(part: str) -> str:
    """Return a name for the images of a part: "test images of mine" for `test[mine]`."""
    split, _, data_set = part.removesuffix("_disjoint").partition("[")
    name = NAMES.get(split, f"{split} images") + (f" of {data_set.removesuffix(']')}" if data_set else "")
    return f"{name} of unseen sources" if part.endswith("_disjoint") else name


def shown_parts(parts: Iterable[str]) -> list[str]:
    """Return the parts that are shown in detail, first the one that the verdict is about.

    That is the first test part; if some of its sources are in training, its images of unseen sources. Single data sets
    are in the overview alone.
    """
    names = list(parts)
    whole = [part for part in names if "[" not in part and f"{part}_disjoint" not in names]
    return sorted(whole, key=lambda part: not part.startswith("test"))


def _section(part: str, rows: pd.DataFrame, temperature: float) -> dict[str, Any]:
    """Return what the template shows of a part in detail; the temperature is that of its probabilities."""
    classes = classes_of(rows)
    found, scores = reliability(rows), scores_by_class(rows, classes)
    shown = confusions(confusion_of(rows, classes), classes)
    cells = zip(shown.labels, shown.counts.tolist(), shown.shares.tolist(), strict=True)
    return {
        "part": part,
        "name": name_of(part),
        "predicted": shown.predicted,
        "note": shown.note,
        "known": sources_known(rows),
        "scores": scores,
        "shown_scores": [one for one in scores if one.name in shown.labels],
        "confusion": [
            {"name": name, "images": sum(counts), "cells": list(zip(counts, shares, strict=True))}
            for name, counts, shares in cells
        ],
        "rankings": [
            {
                "ranking": one,
                **ranking_charts(one),
                "decision": decision_chart(one.name, decision_curve(rows, one.name)),
            }
            for one in rankings_of(rows, shown.labels)
        ],
        "reliability": found,
        "by_chance": ece_by_chance(rows),
        "brier": brier_score(rows),
        "uncorrected": reliability(tempered_table(rows, 1 / temperature)).ece,
        "confidence": float(found.share @ found.confidence),
        "reliability_chart": reliability_chart(found),
    }


def _by_class(right: list[Picture], errors: list[Picture]) -> dict[str, list[Picture]]:
    """Return the pictures of each class with errors, the right ones first; the most confident errors come first."""
    names = dict.fromkeys(one.label for one in errors)
    return {name: [one for one in (*right, *errors) if one.label == name] for name in names}


def _failing(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return the sources with no image that is right, those with most images first; None if sources are unknown."""
    if not sources_known(rows):
        return None
    right = set(rows.loc[rows["label"] == rows["prediction"], "source"])
    failures = failures_of(rows)
    failing = failures[~failures["source"].isin(right)].sort_values("images", ascending=False, kind="stable")
    listed = failing[:MOST].to_dict("records")
    return {"all": rows["source"].nunique(), "sources": failing["source"].nunique(), "rows": listed}
