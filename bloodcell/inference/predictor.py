"""Trained classifiers as an object: the way in from Python."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bloodcell.data.images import ImageError
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.engine import Engine, engine_of
from bloodcell.inference.ensemble import GROUP, ImageLike, Jury
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.predictions import predictions_table
from bloodcell.models.batch_norm_adaptation import (
    adapt_batch_norm,
    check_count,
    mixed,
    require_own_statistics,
)
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device

Array = np.ndarray[Any, np.dtype[Any]]


class Predictor:
    """One classifier, or the mean of several, each with its preprocessing.

    Args:
        engines: The classifiers, of the same classes in any order.
        device: The torch device that they compute on.
        tta: none, flips or d4: the symmetries of each image over which the probabilities are averaged.
    """

    def __init__(self, engines: list[Engine], device: str = "cpu", tta: str = "none") -> None:
        self.jury, self.device, self.tta = Jury(engines, tta), device, tta
        self.classes = self.jury.classes

    def predict(self, images: ImageLike | Iterable[ImageLike], batch_size: int = GROUP) -> pd.DataFrame:
        """Return the predictions table of some images, a row each, in their order.

        Args:
            images: One image or several.
            batch_size: Images at once.

        Returns:
            Columns path (an array's is `array_N`), split, source and label (all empty), prediction, cell (found, none,
            or empty where no classifier looks for the cell), and p_NAME for each class.

        Raises:
            BloodcellError: A file cannot be read, or an array is not uint8 (H, W, 3).
        """
        items = _as_list(images)
        starts = range(0, len(items), batch_size)
        parts, cells = [np.empty((0, len(self.classes)))], []
        for group in self.jury.judge((items[start : start + batch_size] for start in starts), len(items)):
            for item, reason in group.bad:
                raise BloodcellError(f"{item}: {reason}")
            parts.append(group.probabilities)
            cells += group.cells
        names = [str(item) if isinstance(item, str | Path) else f"array_{i}" for i, item in enumerate(items)]
        samples = pd.DataFrame({"path": names, "split": "", "source": "", "label": "", "cell": cells})
        return predictions_table(samples, self.classes, np.concatenate(parts))

    def adapt(self, images: Iterable[ImageLike]) -> Predictor:
        """Return a predictor for another laboratory: batch norm has the statistics of its images, which need no labels.

        Args:
            images: Some of its images, as various as those to predict; 32 or more.

        Raises:
            BloodcellError: There are too few, one cannot be read, or a classifier has no batch norm.
        """
        items = _as_list(images)
        check_count(len(items))
        groups = mixed(items)
        return Predictor([self._adapted(engine, groups) for engine in self.jury.engines], self.device, self.tta)

    def _adapted(self, engine: Engine, groups: list[list[ImageLike]]) -> Engine:
        """Return an engine whose batch norm has the statistics of groups of images."""
        require_own_statistics(engine.trained())
        classifier = copy.deepcopy(engine.trained())
        classifier.limits = None  # they are of the features as they were
        net = classifier.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        decoded = (np.stack([_read(engine.preprocessing, item) for item in group]) for group in groups)
        adapt_batch_norm(net, (torch.from_numpy(one).permute(0, 3, 1, 2).to(self.device) for one in decoded))
        return engine_of(classifier, self.device, file=engine.file)


def _read(preprocessing: Preprocessing, item: ImageLike) -> Array:
    try:
        return preprocessing.pixels(item)
    except ImageError as error:
        raise BloodcellError(f"{item}: {error}") from error


def _as_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """Return one image or several as a list; one array (H, W, 3) is one image."""
    single = isinstance(images, str | Path) or hasattr(images, "getbands")
    if single or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    return list(images)


def load(
    run: str | Path | list[str | Path], device: str | None = None, tta: str = "none", backend: str = "auto"
) -> Predictor:
    """Load the classifier of a run folder, a checkpoint or an exported file, or several, whose mean then predicts.

    Args:
        run: A run folder, a .ckpt file or an exported one, or a list of them.
        device: cpu, cuda or mps; None: the best there is.
        tta: none, flips or d4.
        backend: auto, onnx, compile or eager: what computes; auto: the fastest, which for a few images is eager.

    Raises:
        BloodcellError: There is no checkpoint, it is not one of this package, or several have other classes.
    """
    chosen = best_device(device)
    return Predictor(load_engines(run, chosen, backend), chosen, tta)
