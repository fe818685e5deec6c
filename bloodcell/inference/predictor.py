"""Trained classifiers as a Python object."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.inference.adaptation import adapted
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import GROUP, Ensemble, ImageLike
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.predictions import predictions_table
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, decoders
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

    def predict(self, images: ImageLike | Iterable[ImageLike], batch_size: int = GROUP) -> pd.DataFrame:
        """Return the predictions table of one image or several, in their order.

        Args:
            images: Files, RGB arrays uint8 (H, W, 3) or Pillow images.
            batch_size: Images at once.

        Returns:
            Columns path (an array's is `array_N`), split, source and label (all empty), prediction, cell (found, none,
            or empty if no classifier looks for the cell), and p_NAME for each class.

        Raises:
            BloodcellError: A file cannot be read, an image has no finite answer, or an array is not uint8 (H, W, 3).
        """
        items = _as_list(images)
        starts = range(0, len(items), batch_size)
        parts, cells = [np.empty((0, len(self.classes)))], []
        for group in self.ensemble.predict((items[start : start + batch_size] for start in starts), len(items)):
            for item, reason in group.bad:
                raise BloodcellError(f"{item if isinstance(item, str | Path) else 'an image'}: {reason}")
            parts.append(group.probabilities)
            cells += group.cells
        names = [str(item) if isinstance(item, str | Path) else f"array_{i}" for i, item in enumerate(items)]
        samples = pd.DataFrame({"path": names, "split": "", "source": "", "label": "", "cell": cells})
        return predictions_table(samples, self.classes, np.concatenate(parts))

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
    single = isinstance(images, str | Path) or hasattr(images, "getbands")
    if single or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    return list(images)


def load(
    run: str | Path | list[str | Path], device: str | None = None, tta: str | None = None, backend: str = "auto"
) -> Predictor:
    """Load a classifier, or several, whose mean then predicts.

    Args:
        run: A run folder, a .ckpt file or an exported one, or a list of them.
        device: cpu, cuda or mps; None: the best there is.
        tta: none, flips or d4; None: as in training.
        backend: auto, onnx, compile or eager; auto: as in training, else the fastest.

    Raises:
        BloodcellError: There is no checkpoint, it is not one of this package, or several have other classes.
    """
    chosen = best_device(device)
    return Predictor(load_engines(run, chosen, FeaturesConfig(backend=backend)), chosen, tta)
