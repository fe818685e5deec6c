"""One way to compute: a trained classifier as a function from pixels to probabilities, whatever file it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.backends import Engine as Backbone
from bloodcell.inference.features import probabilities_of
from bloodcell.inference.tta import IDENTITY, Symmetry, judgement
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
class Judged:
    """What a classifier makes of N images.

    Attributes:
        probabilities: float64 (N, C), calibrated.
        features: float32 (N, F), of the images as they are.
        unlike: bool (N,): the image is unlike the training data; None where the classifier has no limits.
    """

    probabilities: Array
    features: Array
    unlike: Array | None


@dataclass
class Engine:
    """A trained classifier, ready to judge.

    Attributes:
        classes: In the order of the probabilities.
        preprocessing: What makes its images of pictures.
        temperature: By which probabilities are calibrated.
        limits: What it knows of where it can be trusted; None where it does not.
        passes: Returns the way that is the fastest for so many images.
        classifier: As it was trained; None where the file holds but what judging needs.
        file: Where it came from; None: from memory.
    """

    classes: list[str]
    preprocessing: Preprocessing
    temperature: float
    limits: Limits | None
    passes: Callable[[int], Pass]
    classifier: Classifier | None = None
    file: Path | None = None

    def judge(self, images: Array, through: Pass | None = None, symmetries: Sequence[Symmetry] = (IDENTITY,)) -> Judged:
        """Judge images, uint8 (N, size, size, 3), one or more.

        Args:
            images: As the preprocessing makes them.
            through: The way, where it is chosen already; several threads may take the same.
            symmetries: Over which the probabilities are averaged, the identity first.
        """
        run = (through or self.passes(len(images))).run
        seen = [run(symmetry(images, [])) for symmetry in symmetries]
        probabilities = judgement(np.stack([one for one, _ in seen]), self.temperature)
        return Judged(probabilities, seen[0][1], self._unlike(seen[0][1]))

    def trained(self) -> Classifier:
        """Return the classifier as it was trained.

        Raises:
            BloodcellError: The file does not hold it.
        """
        if self.classifier is None:
            raise BloodcellError(f"{self.file} holds a net that cannot be changed any more; adapt the run it is of")
        return self.classifier

    def _unlike(self, features: Array) -> Array | None:
        """Return which images are unlike the training data, bool (N,), by their features; None: it is not known."""
        if self.limits is None:
            return None
        return np.asarray(score(self.limits, features) > self.limits.threshold)


def engine_of(
    classifier: Classifier, device: str, backend: str = "auto", precision: str = "float32", file: Path | None = None
) -> Engine:
    """Make an engine of a trained classifier.

    Args:
        classifier: The classifier; its net is not to change any more.
        device: Where to compute.
        backend: Of the backbone, as in `bloodcell.inference.backends.Engine`.
        precision: float32 or bf16.
        file: Its checkpoint.
    """
    net, preprocessing = classifier.net, Preprocessing(**classifier.hparams["preprocessing"])
    backbone = Backbone(net, preprocessing.image_size, backend, precision, device)

    def passes(images: int) -> Pass:
        forward = backbone.forward(images)

        def run(batch: Array) -> tuple[Array, Array]:
            features = forward.all(batch)
            return probabilities_of(net, torch.from_numpy(features)), features

        return Pass(forward.name, forward.streams, run)

    return Engine(list(classifier.classes), preprocessing, net.temperature, classifier.limits, passes, classifier, file)
