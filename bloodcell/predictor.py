"""A trained classifier as an object: the way in from Python."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bloodcell.data.images import ImageError
from bloodcell.data.transforms import Preprocessing
from bloodcell.ensemble import load_members
from bloodcell.errors import BloodcellError
from bloodcell.evaluation.predictions import averaged, predictions_table
from bloodcell.machine import best_device
from bloodcell.models.adaptation import adapt_batch_norm, check_count, mixed, require_own_statistics
from bloodcell.models.classifier import Classifier
from bloodcell.models.features import probabilities_of
from bloodcell.models.tta import judgement, symmetries

#: One image: a file, an RGB array uint8 (H, W, 3), or a Pillow image.
ImageLike = Any


class Predictor:
    """One classifier, or the mean of several, each with its preprocessing, all from their checkpoints.

    Args:
        classifiers: The trained classifiers, of the same classes in any order.
        device: The torch device to compute on.
        tta: none, flips or d4: the symmetries of each image over which the probabilities are averaged.
    """

    def __init__(self, classifiers: list[Classifier], device: str = "cpu", tta: str = "none") -> None:
        self.classifiers, self.device, self.symmetries = classifiers, device, symmetries(tta)
        self.classes = list(classifiers[0].classes)

    def predict(self, images: ImageLike | Iterable[ImageLike], batch_size: int = 64) -> pd.DataFrame:
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
        return averaged([self._table(one, items, batch_size) for one in self.classifiers])

    def adapt(self, images: Iterable[ImageLike]) -> Predictor:
        """Return a predictor for another laboratory: batch norm has the statistics of its images, which need no labels.

        Args:
            images: Some of its images, as various as those to predict; 32 or more.

        Raises:
            BloodcellError: There are too few, one cannot be read, or a classifier has no batch norm.
        """
        items = _as_list(images)
        check_count(len(items))
        groups, adapted = mixed(items), copy.deepcopy(self)
        for classifier in adapted.classifiers:
            require_own_statistics(classifier)
            net = classifier.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
            decoded = (np.stack([_read(preprocessing, item)[0] for item in group]) for group in groups)
            adapt_batch_norm(net, (torch.from_numpy(one).permute(0, 3, 1, 2).to(self.device) for one in decoded))
        return adapted

    def _table(self, classifier: Classifier, items: list[ImageLike], batch_size: int) -> pd.DataFrame:
        """Return one classifier's predictions table."""
        preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
        parts, cells = [np.empty((len(self.symmetries), 0, len(self.classes)))], []
        for start in range(0, len(items), batch_size):
            decoded = [_read(preprocessing, item) for item in items[start : start + batch_size]]
            parts.append(self._probabilities(classifier, np.stack([pixels for pixels, _ in decoded])))
            cells += [cell for _, cell in decoded]
        names = [str(item) if isinstance(item, str | Path) else f"array_{i}" for i, item in enumerate(items)]
        samples = pd.DataFrame({"path": names, "split": "", "source": "", "label": "", "cell": cells})
        probabilities = judgement(np.concatenate(parts, axis=1), classifier.net.temperature)
        return predictions_table(samples, list(classifier.classes), probabilities)

    def _probabilities(self, classifier: Classifier, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return probabilities, float64 (symmetries, N, classes), of images uint8 (N, size, size, 3)."""
        net = classifier.net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        found = []
        for symmetry in self.symmetries:
            inputs = torch.from_numpy(symmetry(images, [])).permute(0, 3, 1, 2).to(self.device)
            with torch.inference_mode():
                features = net.features(inputs).float().cpu()
            found.append(probabilities_of(net, features))
        return np.stack(found)


def _read(preprocessing: Preprocessing, item: ImageLike) -> tuple[np.ndarray[Any, Any], str]:
    try:
        return preprocessing.read(item)
    except ImageError as error:
        raise BloodcellError(f"{item}: {error}") from error


def _as_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """Return one image or several as a list; one array (H, W, 3) is one image."""
    single = isinstance(images, str | Path) or hasattr(images, "getbands")
    if single or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    return list(images)


def load(run: str | Path | list[str | Path], device: str | None = None, tta: str = "none") -> Predictor:
    """Load the classifier of a run folder or a checkpoint, or several, whose mean then predicts.

    Args:
        run: A run folder or a .ckpt file, or a list of them.
        device: cpu, cuda or mps; None: the best there is.
        tta: none, flips or d4.

    Raises:
        BloodcellError: There is no checkpoint, it is not one of this package, or several have other classes.
    """
    return Predictor(list(load_members(run).values()), best_device(device), tta)
