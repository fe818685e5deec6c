"""The charts of report.html."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bloodcell.evaluation.svg import PERCENT, Axis, Series, chart, ticks_up_to
from bloodcell.metrics.abstention import Promise
from bloodcell.metrics.decision import DecisionCurve
from bloodcell.metrics.reliability import Reliability
from bloodcell.metrics.roc import Ranking
from bloodcell.runtime.html import percent

#: Size and ticks of the charts of single classes.
SMALL, HALVES = (210, 200), (0.0, 0.5, 1.0)


def ranking_charts(ranking: Ranking) -> dict[str, Markup]:
    """Draw the ROC curve and the precision-recall curve of one class."""
    x, y = Axis("false alarms", HALVES), Axis("recall", HALVES)
    roc = [Series((0, 1), (0, 1), "guide"), Series(*ranking.roc.T)]
    label = f"ROC curve of {ranking.name}: area {ranking.auc:.3f}"
    recall, precision = Axis("recall", HALVES), Axis("precision", HALVES)
    curve = [Series((0, 1), (ranking.share, ranking.share), "guide"), Series(*ranking.precision_recall.T)]
    named = f"Precision-recall curve of {ranking.name}: average precision {ranking.average_precision:.3f}"
    return {"roc": chart(label, x, y, roc, SMALL), "precision_recall": chart(named, recall, precision, curve, SMALL)}


def decision_chart(name: str, curve: DecisionCurve) -> Markup:
    """Draw the net benefit of acting on one class by threshold; what is below 0 is drawn at 0."""
    y = Axis("net benefit", ticks_up_to(float(max(curve.benefit.max(), curve.everyone.max(), 0.01))), "{:.2g}")
    series = [Series(curve.thresholds, curve.everyone, "guide"), Series(curve.thresholds, curve.benefit)]
    return chart(f"Decision curve of {name}", Axis("threshold", HALVES), y, series, SMALL)


def reliability_chart(found: Reliability) -> Markup:
    """Draw accuracy by confidence, and the share of the images at each."""
    dots = [Series((0, 1), (0, 1), "guide"), Series(found.confidence, found.accuracy, shape="both")]
    known = not np.isnan(found.low).any()
    ranges = [Series(found.confidence, found.low, shape="ranges", top=found.high)] if known else []
    label = f"Reliability diagram: expected calibration error {percent(found.ece)}"
    bars = Series(found.confidence, found.share, "guide", "bars")
    return chart(label, Axis("confidence", PERCENT), Axis("accuracy", PERCENT), [bars, *ranges, *dots])


def risk_chart(curve: pd.DataFrame, promises: list[Promise]) -> Markup:
    """Draw the share of errors among the answered images by their share, and the result of each promise."""
    possible = [one for one in promises if one.attained]
    highest = float(curve.loc[curve["coverage"] >= 0.05, "risk"].max())
    series = [Series(curve["coverage"], curve["risk"])]
    series += [Series([one.coverage for one in possible], [one.risk for one in possible], "two", "dots")]
    label = f"Risk-coverage curve: {percent(float(curve['risk'].iloc[-1]))} errors if all images are answered"
    form = "{:.0%}" if highest > 0.05 else "{:.1%}"
    return chart(label, Axis("answered", PERCENT), Axis("errors among them", ticks_up_to(highest), form), series)


def history_charts(history: pd.DataFrame) -> list[dict[str, Any]]:
    """Draw loss and accuracy over the epochs, training and validation."""
    last = int(history["epoch"].max())
    step = max(1, round(last / 6))
    epochs = Axis("epoch", range(1, max(last, 2) + step, step), "{:.0f}")
    drawn = []
    for metric, form in (("loss", "{:g}"), ("accuracy", "{:.0%}")):
        known = [(part, kind) for part, kind in (("train", "one"), ("val", "two")) if f"{part}/{metric}" in history]
        series = [Series(history["epoch"], history[f"{part}/{metric}"], kind, "both") for part, kind in known]
        ticks = PERCENT if metric == "accuracy" else ticks_up_to(max(float(np.nanmax(one.y)) for one in series))
        label = f"{metric.capitalize()} of training and validation over {last} epochs"
        drawn.append({"name": metric, "chart": chart(label, epochs, Axis(metric, ticks, form), series)})
    return drawn
