"""Plots of scores with their intervals, of calibration, and of ROC and precision-recall curves."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bloodcell.metrics.by_class import ClassScores
from bloodcell.metrics.reliability import Reliability
from bloodcell.metrics.roc import Bands, Ranking
from bloodcell.runtime.colours import BLUE, COLOURS, ORANGE
from bloodcell.runtime.fonts import as_written

#: Colours with dashes, so that neighbours differ without colour, too.
STYLES = [(colour, dashes) for dashes in ("-", "--", ":") for colour in COLOURS[:6]]


def scores_figure(scores: list[ClassScores], title: str) -> Figure:
    """Draw recall, specificity and precision of each class with their 95 % intervals, if sources are known."""
    figure = Figure(figsize=(6.4, 1.3 + 0.6 * len(scores)), layout="constrained")
    axes, places = figure.add_subplot(), np.arange(len(scores))
    styles = ("recall", BLUE, "o"), ("specificity", "#009E73", "^"), ("precision", ORANGE, "s")
    for number, (name, colour, marker) in enumerate(styles):
        found = [(place, getattr(one, name)) for place, one in zip(places, scores, strict=True)]
        known = [(place + 0.24 * (number - 1), one) for place, one in found if one.value is not None]
        for place, one in known:
            if one.interval:
                axes.plot(one.limits, (place, place), color=colour, linewidth=1.4)
        label = "recall (sensitivity)" if name == "recall" else name
        values = [one.value for _, one in known]
        axes.plot(values, [place for place, _ in known], marker, color=colour, markersize=5, label=label)
    font = as_written([*(one.name for one in scores), title])
    axes.set_yticks(places, [one.name for one in scores], **font)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(scores) - 0.5, -0.5))
    axes.set_title(title, **font)
    if any(one.recall.interval for one in scores):
        axes.set_xlabel("lines: 95 % intervals")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    _light(axes)
    figure.legend(frameon=False, ncols=3, loc="outside lower center")
    return figure


def calibration_figure(found: Reliability, title: str) -> Figure:
    """Draw accuracy by confidence with 95 % intervals, and the share of the images at each confidence."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(found.confidence, found.share, width=0.04, color="#d3d9df", label="share of the images")
    axes.plot((0, 1), (0, 1), ":", color="grey", linewidth=1, label="perfect calibration")
    if known := not np.isnan(found.low).any():
        axes.vlines(found.confidence, found.low, found.high, color=BLUE, linewidth=1.4)
    label = "accuracy, with 95 % interval" if known else "accuracy"
    axes.plot(found.confidence, found.accuracy, "o-", color=BLUE, markersize=5, label=label)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"{title}, calibration error {100 * found.ece:.1f} points")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    _light(axes)
    figure.legend(frameon=False, ncols=3, loc="outside lower center", fontsize=8)
    return figure


def ranking_figure(rankings: list[Ranking], kind: str, title: str, bands: list[Bands | None] | None = None) -> Figure:
    """Draw the ROC or precision-recall curves of some classes; the kind is `roc` or `precision_recall`.

    `bands` are the intervals of the same classes, None for a class without.
    """
    roc = kind == "roc"
    figure = Figure(figsize=(5.4, 5.0 + 0.2 * len(rankings)), layout="constrained")
    axes = figure.add_subplot()
    if roc:
        axes.plot((0, 1), (0, 1), ":", color="grey", linewidth=1)
    alpha = min(0.12, 0.4 / max(len(rankings), 1))  # the bands of many classes lie upon one another
    for one, band, (colour, dashes) in zip(rankings, bands or [None] * len(rankings), cycle(STYLES), strict=False):
        area = f"AUC {one.auc:.3f}" if roc else f"average precision {one.average_precision:.3f}"
        points = one.roc if roc else one.precision_recall
        axes.plot(*points.T, color=colour, linestyle=dashes, label=f"{one.name}, {area}")
        if band:
            axes.fill_between(*(band.roc if roc else band.precision_recall).T, color=colour, alpha=alpha, linewidth=0)
    font = as_written([*(one.name for one in rankings), title])
    axes.set_title(title, **font)
    names = ("1 - specificity", "sensitivity") if roc else ("recall", "precision")
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    _light(axes)
    legend = figure.legend(frameon=False, loc="outside lower center")
    if any(bands or []):
        axes.text(1, 0.01, "shaded: 95 % intervals", ha="right", fontsize=8, color="#555555")
    for text in legend.get_texts():
        text.set(**font)
    return figure


def _light(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
