"""The cover of a published classifier: a painted cell, and what the classifier answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bloodcell.evaluation.figures import save
from bloodcell.runtime.colours import BLUE
from bloodcell.runtime.fonts import as_written

Array = np.ndarray[Any, np.dtype[Any]]

#: Most classes that it shows.
MOST = 6


def cover(image: Array, classes: list[str], probabilities: Array, file: Path) -> None:
    """Write a picture twice as wide as high, as PNG.

    Args:
        image: uint8 (H, W, 3), RGB.
        classes: C names.
        probabilities: (C,); the classes with the highest are shown.
        file: The file, .png.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image)
    left.set_axis_off()
    left.set_title("painted cell")
    shown = np.argsort(probabilities)[::-1][:MOST]
    names = [classes[index] if len(classes[index]) <= 24 else f"{classes[index][:23]}…" for index in shown]
    right.barh(range(len(shown)), probabilities[shown], color=BLUE)
    right.set_yticks(range(len(shown)), names, **as_written(names))
    right.invert_yaxis()
    right.set(xlim=(0, 1), title="probability")
    right.xaxis.set_major_formatter(PercentFormatter(1.0))
    right.spines[["top", "right"]].set_visible(False)
    save(figure, file)
