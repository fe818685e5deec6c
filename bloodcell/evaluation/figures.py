"""Plots of a run, drawn without a window or global state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bloodcell.data.image_limits import ImageError
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.metrics.confusions import confusions
from bloodcell.runtime.colours import BLUE, ORANGE
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.fonts import as_written
from bloodcell.runtime.io import write_atomically

#: Most failures in a figure, and in a row of it.
MOST, ACROSS = 24, 6
#: Of zlib, 0 to 9: half the time of its default 6, for files 2 % larger.
COMPRESSION = 4


def curves_figure(history: pd.DataFrame, chosen: int) -> Figure:
    """Draw loss and accuracy of training and validation over the epochs; a line marks the chosen one, from 1.

    The history has columns epoch, train/loss, val/loss, train/accuracy, val/accuracy; validation may be missing.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, name, colour, marker in (("train", "training", BLUE, "o"), ("val", "validation", ORANGE, "s")):
            if f"{split}/{metric}" in history:
                values = history[f"{split}/{metric}"]
                axes.plot(history["epoch"], values, color=colour, marker=marker, markersize=4, label=name)
        axes.axvline(chosen, color="grey", linestyle=":", linewidth=1, label=f"chosen epoch ({chosen})")
        axes.set(xlabel="epoch", title=metric.capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.axes[0].legend(frameon=False)
    return figure


def confusion_figure(matrix: np.ndarray[Any, Any], classes: list[str], title: str, normalise: bool) -> Figure:
    """Draw a confusion matrix of counts (classes, classes), a row for each true class; `normalise` draws shares.

    Of many classes it has the most confused, and says so in its title; see `confusions`.
    """
    shown = confusions(matrix, classes)
    side = max(4.2, 0.62 * len(shown.labels) + 2.2)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shown.shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*shown.counts.shape):
        share = shown.shares[row, column]
        percents = f"{100 * share:.0f}%" if shown.counts[row].any() else "-"  # a class without images has none
        text = percents if normalise else f"{shown.counts[row, column]:,}"
        colour = "white" if share > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    title = f"{title}\n{shown.note}" if shown.note else title
    font = as_written([*shown.predicted, title])
    names = range(len(shown.predicted)), shown.predicted
    axes.set_xticks(*names, rotation=35, ha="right", rotation_mode="anchor", **font)
    axes.set_yticks(range(len(shown.labels)), shown.labels, **font)
    axes.set_title(title, **font)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def failures_figure(
    failures: pd.DataFrame, root: Path, split: str, preprocessing: Preprocessing | None = None
) -> Figure:
    """Draw the worst image of each failure of one split, with its label, how often it was taken for what, and how sure.

    With `preprocessing`, a frame shows the square that the net saw, if it did not see the whole image.

    Raises:
        BloodcellError: An image cannot be read.
    """
    rows = failures[:MOST]
    down = -(-len(rows) // ACROSS)
    height = 2.1 * down + 0.4
    figure = Figure(figsize=(2.1 * ACROSS, height))
    # a layout that measures itself would draw all images twice
    figure.subplots_adjust(0.005, 0.1 / height, 0.995, 1 - 0.75 / height, wspace=0.04, hspace=0.36)
    worst = f", the worst {MOST}" if len(failures) > MOST else ""
    seen = "; the frame is what the net saw" if preprocessing and preprocessing.crops_cell else ""
    figure.suptitle(
        f"{split}: {len(failures):,} cells with a wrong image{worst}{seen}", y=1 - 0.1 / height, fontsize=11
    )
    grid = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    font = as_written([*rows["label"], *rows["mistaken_for"]])
    for axes, row in zip(grid, rows.itertuples(), strict=False):
        try:
            image = read_image(root / str(row.path))
        except ImageError as error:
            raise BloodcellError(f"{root / str(row.path)}: {error}") from error
        axes.imshow(image)
        if preprocessing and (square := preprocessing.square(image)):
            _frame(axes, *square)
        wrong, sure = round(row.images * (1 - row.right)), f"{100 * row.confidence:.0f} % sure"
        text = f"{row.label}\nas {row.mistaken_for}, {wrong} of {row.images}\n{sure}"
        axes.set_title(text, y=1, fontsize=7, **font)
    return figure


def _frame(axes: Axes, left: int, top: int, side: int) -> None:
    """Draw the part of a square, pixels, that lies in the image: white on black, which is seen on any colour."""
    right = min(left + side, axes.get_xlim()[1] + 0.5)
    bottom = min(top + side, axes.get_ylim()[0] + 0.5)  # the vertical axis runs downwards
    left, top = max(left, 0), max(top, 0)
    for colour, line in (("black", 2.6), ("white", 1.2)):
        frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False)
        frame.set(edgecolor=colour, linewidth=line, clip_on=False)
        axes.add_patch(frame)


def save(figure: Figure, file: Path, formats: Sequence[str] = ("png",)) -> None:
    """Write a figure in one or more formats: to `file` with the ending of each."""
    with rc_context({"svg.hashsalt": "bloodcell"}):  # the same names of its parts each time
        for form in formats:
            dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
            further: dict[str, Any] = {"pil_kwargs": {"compress_level": COMPRESSION}} if form == "png" else {}
            write = partial(figure.savefig, dpi=130, format=form, metadata=dates, **further)
            write_atomically(file.with_suffix(f".{form}"), write)
