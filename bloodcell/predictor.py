"""A trained classifier as an object: the way in from Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bloodcell import runs
from bloodcell.data.images import ImageError
from bloodcell.data.transforms import Preprocessing
from bloodcell.errors import BloodcellError
from bloodcell.evaluation.predictions import predictions_table
from bloodcell.machine import best_device
from bloodcell.models.classifier import Classifier, load_classifier
from bloodcell.models.features import probabilities_of

#: One image: a file, an RGB array uint8 (H, W, 3), or a Pillow image.
ImageLike = Any


class Predictor:
    """A classifier with its preprocessing and class names, all from one checkpoint.

    Args:
        classifier: The trained classifier.
        device: The torch device to compute on.
    """

    def __init__(self, classifier: Classifier, device: str = "cpu") -> None:
        self.classifier, self.device = classifier, device
        self.classes = list(classifier.classes)
        self.preprocessing = Preprocessing(**classifier.hparams["preprocessing"])

    def predict(self, images: ImageLike | Iterable[ImageLike], batch_size: int = 64) -> pd.DataFrame:
        """Return the predictions table of some images, a row each, in their order.

        Args:
            images: One image or several.
            batch_size: Images at once.

        Returns:
            Columns path (an array's is `array_N`), split, source and label (all empty), prediction, and p_NAME for
            each class.

        Raises:
            BloodcellError: A file cannot be read, or an array is not uint8 (H, W, 3).
        """
        items = _as_list(images)
        parts = [self._probabilities(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
        probabilities = np.concatenate(parts) if parts else np.empty((0, len(self.classes)))
        names = [str(item) if isinstance(item, str | Path) else f"array_{i}" for i, item in enumerate(items)]
        samples = pd.DataFrame({"path": names, "split": "", "source": "", "label": ""})
        return predictions_table(samples, self.classes, probabilities)

    def _probabilities(self, items: list[ImageLike]) -> np.ndarray[Any, np.dtype[np.float64]]:
        net = self.classifier.net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        inputs = torch.stack([self._read(item) for item in items]).to(self.device)
        with torch.inference_mode():
            features = net.features(inputs).float().cpu()
        return probabilities_of(net, features)

    def _read(self, item: ImageLike) -> torch.Tensor:
        try:
            return self.preprocessing(item)
        except ImageError as error:
            raise BloodcellError(f"{item}: {error}") from error


def _as_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """Return one image or several as a list; one array (H, W, 3) is one image."""
    single = isinstance(images, str | Path) or hasattr(images, "getbands")
    if single or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    return list(images)


def load(run: str | Path, device: str | None = None) -> Predictor:
    """Load the classifier of a run folder or a checkpoint.

    Args:
        run: A run folder, or a .ckpt file.
        device: cpu, cuda or mps; None: the best there is.

    Raises:
        BloodcellError: There is no checkpoint, or it is not one of this package.
    """
    return Predictor(load_classifier(runs.checkpoint_of(Path(run))), best_device(device))
