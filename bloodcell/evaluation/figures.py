"""Figures of a run, drawn without a window or global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bloodcell.evaluation.fonts import as_written

#: Okabe and Ito's colours, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE = "#0072B2", "#D55E00"


def curves_figure(history: pd.DataFrame, chosen: int) -> Figure:
    """Draw loss and accuracy of training and validation over the epochs.

    Args:
        history: Columns epoch, train/loss, val/loss, train/accuracy, val/accuracy; validation may be missing.
        chosen: The epoch, from 1, whose weights the run took; it is marked.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, colour, marker in (("train", BLUE, "o"), ("val", ORANGE, "s")):
            if f"{split}/{metric}" in history:
                name = {"train": "training", "val": "validation"}[split]
                values = history[f"{split}/{metric}"]
                axes.plot(history["epoch"], values, color=colour, marker=marker, markersize=4, label=name)
        axes.axvline(chosen, color="grey", linestyle=":", linewidth=1, label=f"chosen epoch ({chosen})")
        axes.set(xlabel="epoch", title={"loss": "Loss", "accuracy": "Accuracy"}[metric])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.axes[0].legend(frameon=False)
    return figure


def confusion_figure(matrix: np.ndarray[Any, Any], classes: list[str], title: str, normalise: bool) -> Figure:
    """Draw a confusion matrix.

    Args:
        matrix: Counts (classes, classes), rows are true classes.
        classes: Their names.
        title: Of the figure.
        normalise: Write each row's shares in percent in place of counts.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(4.2, 0.62 * len(classes) + 2.2)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        text = f"{100 * shares[row, column]:.0f}%" if normalise else f"{matrix[row, column]:,}"
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    ticks = range(len(classes))
    lettering = as_written([*classes, title])
    axes.set_xticks(ticks, classes, rotation=35, ha="right", rotation_mode="anchor", **lettering)
    axes.set_yticks(ticks, classes, **lettering)
    axes.set_title(title, **lettering)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(file, dpi=130)
