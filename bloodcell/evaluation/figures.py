"""Plots of a run, drawn without a window or global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bloodcell.data.images import ImageError, read_image
from bloodcell.evaluation.fonts import as_written
from bloodcell.runtime.errors import BloodcellError

#: Okabe and Ito's colours, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE = "#0072B2", "#D55E00"
#: Most failures in a figure, and in a row of it.
MOST, ACROSS = 24, 6


def curves_figure(history: pd.DataFrame, chosen: int) -> Figure:
    """Draw loss and accuracy of training and validation over the epochs.

    Args:
        history: Columns epoch, train/loss, val/loss, train/accuracy, val/accuracy; validation may be missing.
        chosen: The epoch, from 1, whose weights the run took; a line marks it.
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
        title: Title of the figure.
        normalise: Show each row's shares in percent instead of counts.
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
    font = as_written([*classes, title])
    axes.set_xticks(ticks, classes, rotation=35, ha="right", rotation_mode="anchor", **font)
    axes.set_yticks(ticks, classes, **font)
    axes.set_title(title, **font)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def failures_figure(failures: pd.DataFrame, root: Path, split: str) -> Figure:
    """Draw the worst image of each failure, with its label, what it was taken for, and how often.

    Args:
        failures: Rows of `failures_of` of one split.
        root: The folder of the images.
        split: The name of the split.

    Raises:
        BloodcellError: An image cannot be read.
    """
    rows = failures[:MOST]
    down = -(-len(rows) // ACROSS)
    figure = Figure(figsize=(2.1 * ACROSS, 1.95 * down + 0.4), layout="constrained")
    worst = f", the worst {MOST}" if len(failures) > MOST else ""
    figure.suptitle(f"{split}: {len(failures):,} cells with a wrong image{worst}", fontsize=11)
    grid = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    font = as_written([*rows["label"], *rows["mistaken_for"]])
    for axes, row in zip(grid, rows.itertuples(), strict=False):
        try:
            axes.imshow(read_image(root / str(row.path)))
        except ImageError as error:
            raise BloodcellError(f"{root / str(row.path)}: {error}") from error
        wrong = round(row.images * (1 - row.right))
        axes.set_title(f"{row.label}\nas {row.mistaken_for}, {wrong} of {row.images}", fontsize=7, **font)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(file, dpi=130)
