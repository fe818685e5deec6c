"""Pictures of a study: its course, its trials over all keys, and how much each key matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bloodcell.evaluation.figures import BLUE, ORANGE
from bloodcell.tuning.trial_lines import value_text

#: What words over lines stand on.
_PAPER = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}

Array = np.ndarray[Any, np.dtype[np.float64]]


def history_figure(table: pd.DataFrame, metric: str) -> Figure:
    """Draw the figure of each trial, and the best so far.

    Args:
        table: Columns trial, state (complete, pruned or fail) and value.
        metric: The figure's name; a loss is better where it is lower.
    """
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    complete, cut = (table[table["state"] == state] for state in ("complete", "pruned"))
    best = complete["value"].cummin() if metric == "loss" else complete["value"].cummax()
    axes.plot(complete["trial"], complete["value"], "o", color=BLUE, markersize=4, label="to the end")
    if len(cut):
        axes.plot(cut["trial"], cut["value"], "x", color="grey", markersize=4, label="cut: its last figure")
    axes.step(complete["trial"], best, where="post", color=ORANGE, linewidth=1.8, label="best so far")
    if (failed := table.loc[table["state"] == "fail", "trial"]).size:
        axes.plot(failed, [0.01] * len(failed), "v", color="black", markersize=5, label="failed",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set(xlabel="trial", ylabel=_name(metric), title="Course of the study")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric != "loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def parallel_figure(table: pd.DataFrame, ranges: dict[str, Any], metric: str) -> Figure:
    """Draw each trial as a line over all keys, the better the darker.

    Args:
        table: The complete trials: columns value and one for each key.
        ranges: Key -> Optuna's distribution.
        metric: The figure's name.
    """
    keys = list(ranges)
    figure = Figure(figsize=(max(6.4, 1.55 * (len(keys) + 1)), 4.6), layout="constrained")
    axes = figure.subplots()
    sign = -1.0 if metric == "loss" else 1.0
    ordered = table.assign(rank=sign * table["value"]).sort_values("rank")  # the best on top
    places = np.column_stack([*(_places(ordered[key], ranges[key]) for key in keys), _scaled(ordered["value"])])
    low, high = _ends(ordered["rank"])
    colours = ScalarMappable(Normalize(low - 0.25 * (high - low), high), "Blues")  # the worst is pale, but there
    for line, rank in zip(places, ordered["rank"], strict=True):
        axes.plot(range(len(keys) + 1), line, color=colours.to_rgba(rank), linewidth=1.1)
    axes.plot(range(len(keys) + 1), places[-1], color=ORANGE, linewidth=2.2, label="best")
    for position, key in enumerate(keys):
        _mark(axes, position, *_ticks(ranges[key]))
    low, high = _ends(ordered["value"])
    text = "{:.3f}" if metric == "loss" else "{:.1%}"
    _mark(axes, len(keys), np.linspace(0, 1, 5), [text.format(value) for value in np.linspace(low, high, 5)])
    names = [key.replace(".", ".\n") for key in keys]
    axes.set_xticks(range(len(keys) + 1), [*names, metric.replace("_", " ").replace(" by", "\nby")])
    axes.set(xlim=(-0.15, len(keys) + 0.45), ylim=(-0.04, 1.04), yticks=[], title=f"{len(table)} trials to the end")
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def importance_figure(importances: dict[str, float], trials: int) -> Figure:
    """Draw how much each key matters for being among the best trials.

    Args:
        importances: Key -> share of the whole (PED-ANOVA: Watanabe et al. 2023, https://arxiv.org/abs/2304.10255).
        trials: How many trials that rests on.
    """
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure = Figure(figsize=(6.4, 0.42 * len(ordered) + 1.6), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([key for key, _ in ordered], [share for _, share in ordered], color=BLUE)
    axes.bar_label(bars, labels=[f"{100 * share:.0f} %" for _, share in ordered], padding=3, fontsize=9)
    axes.set(xlabel="importance, of all keys together", title=f"What the best trials have in common ({trials} trials)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1.12 * max(share for _, share in ordered))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _name(metric: str) -> str:
    return f"{metric.replace('_', ' ')} of validation"


def _ends(values: Any) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _scaled(values: Any) -> Array:
    low, high = _ends(values)
    return np.asarray((np.asarray(values, float) - low) / (high - low))


def _places(values: pd.Series[Any], distribution: Any) -> Array:
    """Return where values are between the ends of their range, 0 to 1, (N,)."""
    if hasattr(distribution, "choices"):
        internal = np.array([distribution.to_internal_repr(_choice(value)) for value in values], float)
        return np.asarray(internal / max(1, len(distribution.choices) - 1))
    low, high, given = distribution.low, distribution.high, np.asarray(values, float)
    if distribution.log:
        low, high, given = np.log(low), np.log(high), np.log(given)
    return np.asarray((given - low) / (high - low))


def _choice(value: Any) -> Any:
    """Return null for what a table of numbers made of it."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _ticks(distribution: Any) -> tuple[Array, list[str]]:
    """Return where a range has its marks, 0 to 1, and their words."""
    if hasattr(distribution, "choices"):
        count = len(distribution.choices)
        return np.linspace(0, 1, count), [value_text(value) for value in distribution.choices]
    low, high = distribution.low, distribution.high
    if not distribution.log:
        return np.linspace(0, 1, 5), [f"{value:.3g}" for value in np.linspace(low, high, 5)]
    tens = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    values = tens if len(tens) > 2 else np.geomspace(low, high, 5)
    return np.log(values / low) / np.log(high / low), [f"{value:.2g}" for value in values]


def _mark(axes: Any, position: int, places: Any, words: list[str]) -> None:
    """Draw an upright axis with its marks."""
    axes.axvline(position, color="black", linewidth=0.8, ymin=0.037, ymax=0.963)
    for place, word in zip(places, words, strict=True):
        axes.plot([position - 0.02, position], [place, place], color="black", linewidth=0.8)
        beside: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(word, (position, place), **beside, bbox=_PAPER)
