"""A trained classifier as a function from images to probabilities, whatever file it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.backends import Backbone
from bloodcell.inference.features import Extractor, Rows, probabilities_of
from bloodcell.inference.tta import IDENTITY, Symmetry
from bloodcell.metrics.reliability import tempered
from bloodcell.models.ood import Limits, score
from bloodcell.runtime.errors import BloodcellError

if TYPE_CHECKING:
    from bloodcell.models.classifier import Classifier

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Pass:
    """The way of images through a net.

    Attributes:
        name: Backend, device, precision and release: all that a probability depends on besides net and image.
        streams: How many threads may run it at the same time.
        run: uint8 (N, size, size, 3) images to probabilities at temperature 1, float64 (N, C), and the features that
            the head saw, float32 (N, F).
    """

    name: str
    streams: int
    run: Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Prediction:
    """What a classifier predicts of N images.

    Attributes:
        probabilities: Calibrated, averaged over the symmetries, float64 (N, C).
        plain: The same of the images as they are, without test-time augmentation.
        unlike: bool (N,): the image is out-of-distribution; None: the classifier has no limits to tell it by.
    """

    probabilities: Array
    plain: Array
    unlike: Array | None


@dataclass
class Engine:
    """A trained classifier, ready to predict.

    Attributes:
        classes: In the order of the probabilities.
        preprocessing: What makes the net's input of pictures.
        temperature: By which probabilities are calibrated.
        limits: Where it can be trusted; None: not known.
        passes: Returns the fastest way for a number of images.
        classifier: As it was trained; None: the file holds no net that can be looked into.
        file: Where it came from; None: from memory.
        extractor: Passes image files through its backbone, and may keep the features; None likewise.
    """

    classes: list[str]
    preprocessing: Preprocessing
    temperature: float
    limits: Limits | None
    passes: Callable[[int], Pass]
    classifier: Classifier | None = None
    file: Path | None = None
    extractor: Extractor | None = None

    def predict(
        self, images: Array, through: Pass | None = None, symmetries: Sequence[Symmetry] = (IDENTITY,)
    ) -> Prediction:
        """Predict images, uint8 (N, size, size, 3), one or more.

        Args:
            images: As the preprocessing makes them.
            through: The way, if it is chosen already; several threads may take the same.
            symmetries: Over which the probabilities are averaged, the identity first.
        """
        run = (through or self.passes(len(images))).run
        seen = [run(symmetry(images, [])) for symmetry in symmetries]
        return self._prediction(np.stack([one for one, _ in seen]), seen[0][1])

    def predict_features(self, rows: Sequence[Rows]) -> Prediction:
        """Predict images from their pooled features (N, F) under each symmetry, the identity first."""
        classifier = self.trained()
        probabilities = np.stack([probabilities_of(classifier.net, one) for one in rows])
        return self._prediction(probabilities, np.asarray(rows[0][:]) if self.limits else None)

    def _prediction(self, probabilities: Array, features: Array | None) -> Prediction:
        """Return the prediction of probabilities at temperature 1 (symmetries, N, C).

        The temperature comes after the mean over the symmetries, so it changes no predicted class.
        """
        calibrated, plain = (tempered(one, self.temperature) for one in (probabilities.mean(axis=0), probabilities[0]))
        if self.limits is None or features is None:
            return Prediction(calibrated, plain, None)
        return Prediction(calibrated, plain, np.asarray(score(self.limits, features) > self.limits.threshold))

    @property
    def keeps_features(self) -> bool:
        """Whether the features of its backbone are kept on disk."""
        return self.extractor is not None and self.extractor.root is not None

    def trained(self) -> Classifier:
        """Return the classifier as it was trained.

        Raises:
            BloodcellError: The file does not hold it.
        """
        if self.classifier is None:
            raise BloodcellError(f"{self.file} holds a net that cannot be changed any more; adapt the run it is of")
        return self.classifier


def engine_of(
    classifier: Classifier,
    device: str,
    backend: str = "auto",
    precision: str = "float32",
    file: Path | None = None,
    root: Path | None = None,
    workers: int | None = None,
) -> Engine:
    """Make an engine of a trained classifier.

    Args:
        classifier: The classifier; its net must not change any more.
        device: Where to compute.
        backend: See `bloodcell.inference.backends.Backbone`.
        precision: float32 or bf16.
        file: Its checkpoint.
        root: Where features are kept; None: nowhere.
        workers: Threads that decode; None: one a core.
    """
    net, preprocessing = classifier.net, Preprocessing(**classifier.hparams["preprocessing"])
    backbone = Backbone(net, preprocessing.image_size, backend, precision, device)

    def passes(images: int) -> Pass:
        forward = backbone.forward(images)

        def run(batch: Array) -> tuple[Array, Array]:
            features = forward.all(batch)
            return probabilities_of(net, torch.from_numpy(features)), features

        return Pass(forward.name, forward.streams, run)

    extractor = Extractor(net, preprocessing, backbone, root, workers)
    known = list(classifier.classes), preprocessing, net.temperature, classifier.limits
    return Engine(*known, passes, classifier, file, extractor)
