"""Trained classifiers as a Python object."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.image_pages import pages_note
from bloodcell.data.image_paths import base_of, iter_image_paths, relative_to
from bloodcell.data.whole_slides import is_whole_slide
from bloodcell.inference.adaptation import adapted
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import FIELDS, GROUP, Ensemble
from bloodcell.inference.fields.choice import chosen_cells, spread
from bloodcell.inference.groups import Group, ImageLike
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import threshold_of
from bloodcell.inference.prediction_rows import Row, filled_columns, rows_of
from bloodcell.inference.reader import named_or_reader
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, decoders
from bloodcell.runtime.schema.checks import CELLS, require_choice
from bloodcell.runtime.schema.data import FeaturesConfig

Array = np.ndarray[Any, np.dtype[Any]]


class Predictor:
    """One classifier, or the mean of several, each with its preprocessing.

    Args:
        engines: The classifiers, of the same classes in any order.
        device: Their torch device.
        tta: none, flips or d4: the symmetries to average over; None: those of the training.
    """

    def __init__(self, engines: list[Engine], device: str = "cpu", tta: str | None = None) -> None:
        self.ensemble, self.device, self.tta = Ensemble(engines, tta), device, tta
        self.classes = self.ensemble.classes

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        abstain_below: float | None = None,
        error_rate: float | None = None,
        on_bad_image: str = "list",
        cells: str = "auto",
    ) -> pd.DataFrame:
        """Return a row for each image, or for each cell, in the columns of `bloodcell predict`, with all digits.

        Args:
            images: A folder, a file or a pattern, an RGB array uint8 (H, W, 3), a Pillow image, or a list of them.
            abstain_below: Confidence (0 to 1) below which an image is left to a human.
            error_rate: The same, from the share of errors that the checkpoint promised.
            on_bad_image: What to do if an image cannot be read: list it in `table.attrs["bad"]`, path -> reason, or
                error.
            cells: all: a row for each cell of an image. one: a row for each image, which the net sees as in training.
                whole: a row for each image, which the net sees whole. auto: all if cells are small in the images.

        Returns:
            Columns path (relative to the folder, if it is one; an array's is `array_N`), prediction, p_NAME for each
            class, and confidence (0 to 1); abstained, if there is a threshold; the square that was looked at (left,
            top, side; pixels of the upright image) and cell (found or none), if a classifier looks for the cell;
            unlike, if the classifiers have limits; and, if only some classes are answered, other, the class of the rest
            that they are sure of, or ''. Of cells also number, from 1 in each image, left, top, width and height of the
            cell's box, and border, whether the border of the image cuts it; images without a cell have no row, and are
            listed in `table.attrs["without cell"]`.

        Raises:
            BloodcellError: There is no such folder or pattern, an image is a whole slide, an array is no uint8
                (H, W, 3), or, with `on_bad_image="error"`, an image cannot be read or has no finite answer.
        """
        if on_bad_image not in ("list", "error"):
            raise BloodcellError(f"on_bad_image={on_bad_image}; give list or error")
        require_choice("cells", cells, *CELLS)
        items, names = _listed(images)
        for item in items:
            if isinstance(item, str) and is_whole_slide(item):
                raise BloodcellError(
                    f"{item} is a whole slide; `bloodcell predict {quote(item)} ...` writes the table of its cells"
                )
        if pages := pages_note(item for item in items if isinstance(item, str)):
            say(f"note: {pages}")
        engines = self.ensemble.engines
        threshold = threshold_of(abstain_below, error_rate, engines, self.ensemble.tta)
        ensemble = Ensemble(engines, self.tta, chosen_cells(cells, engines, partial(spread, items, total=len(items))))
        rows: list[Row] = []
        bad: dict[str, str] = {}
        empty: list[str] = []
        step = FIELDS if ensemble.finds_all else GROUP
        starts = range(0, len(items), step)
        with progress("predicting") as advance:
            groups = ensemble.predict((items[start : start + step] for start in starts), len(items))
            for start, group in zip(starts, groups, strict=True):
                paths, without, unread = _named(group, names[start : start + step])
                bad |= unread
                if bad and on_bad_image == "error":
                    raise BloodcellError(": ".join(next(iter(bad.items()))))
                empty += without
                found, _, _ = rows_of(group, self.classes, threshold)
                rows += [row | {"path": path} for row, path in zip(found, paths, strict=True)]
                advance(start + len(group.given), len(items))
        if bad:
            say(f"{counted(len(bad), 'image')} cannot be read; which and why: attrs['bad'] of the table")
        if empty:
            say(f"{counted(len(empty), 'image')} without a cell, and so without a row; which: attrs['without cell']")
        table = _table(rows, filled_columns(ensemble, threshold))
        table.attrs |= {"bad": bad, "without cell": empty}
        return table

    def adapt(self, images: Iterable[ImageLike]) -> Predictor:
        """Return a predictor for another laboratory, with the batch-norm statistics of its images.

        Args:
            images: Some of its images, as various as those to predict; 32 or more.

        Raises:
            BloodcellError: There are too few, one cannot be read, or a classifier has no batch norm.
        """
        items = _as_list(images)
        engines = [adapted(engine, items, decoders(None)) for engine in self.ensemble.engines]
        return Predictor(engines, self.device, self.tta)


def _as_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    single = isinstance(images, str | os.PathLike) or hasattr(images, "getbands")
    if single or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    return list(images)


def _listed(images: ImageLike | Iterable[ImageLike]) -> tuple[list[ImageLike], list[str]]:
    """Return the images and their names; folders and patterns become their files."""
    items: list[ImageLike] = []
    alone = isinstance(images, str | os.PathLike)  # one that does not exist is a mistake, in a list it is a bad image
    for item in _as_list(images):
        if isinstance(item, str | os.PathLike):
            name = os.fspath(item)
            several = alone or Path(name).is_dir() or (glob.has_magic(name) and not os.path.lexists(name))
            items += iter_image_paths([name]) if several else [name]
        else:
            items.append(item)
    base = base_of([os.fspath(images)]) if isinstance(images, str | os.PathLike) else ""
    names = [f"array_{number}" if not isinstance(item, str) else item for number, item in enumerate(items)]
    return items, [relative_to(name, base) for name in names]


def _named(group: Group, names: list[str]) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the name of each row's image, those of images without a cell, and those of bad ones with the reason."""
    reasons = {id(item): reason for item, reason in group.bad}
    given = list(zip(names, map(id, group.given), strict=True))
    answered = [name for name, item in given if item not in reasons]
    counts = [1] * len(answered) if group.fields is None else [len(one.cells) for one in group.fields]
    paths = [name for name, count in zip(answered, counts, strict=True) for _ in range(count)]
    without = [name for name, count in zip(answered, counts, strict=True) if not count]
    return paths, without, {name: reasons[item] for name, item in given if item in reasons}


def _table(rows: list[Row], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns)
    whole = [name for name in ("number", "left", "top", "side", "width", "height") if name in columns]
    return table.assign(**{name: pd.to_numeric(table[name]).astype("Int64") for name in whole})


def load(
    run: Any = None,
    device: str | None = None,
    tta: str | None = None,
    backend: str = "auto",
    classes: Sequence[str] | None = None,
) -> Predictor:
    """Load a classifier, or several; see `bloodcell.load`."""
    chosen, run = best_device(device), named_or_reader(run)
    runs = [os.fspath(one) for one in (run if isinstance(run, list | tuple) else [run])]
    return Predictor(load_engines(runs, chosen, FeaturesConfig(backend=backend), classes=classes), chosen, tta)
