"""A trained classifier as a function from images to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.answers import scaled
from bloodcell.inference.backends import Backbone
from bloodcell.inference.features import Extractor, Rows, probabilities_of
from bloodcell.inference.tta import IDENTITY, Symmetry
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.reliability import tempered
from bloodcell.models.ood import Limits, score
from bloodcell.runtime.errors import BloodcellError

if TYPE_CHECKING:
    from bloodcell.models.classifier import Classifier

Array = np.ndarray[Any, np.dtype[Any]]

#: Why an image without probabilities has none.
NOT_FINITE = "the net's numbers for it overflow, so there is no answer; its weights are damaged, or of another net"


@dataclass(frozen=True)
class Pass:
    """A net's forward pass, ready to run.

    Attributes:
        name: Backend, device, precision and release: all that a probability depends on besides net and image.
        streams: The number of threads that may run it at the same time.
        run: Images, uint8 (N, size, size, 3), to probabilities at temperature 1, float64 (N, C), and pooled features,
            float32 (N, F).
    """

    name: str
    streams: int
    run: Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Prediction:
    """A classifier's predictions of N images.

    Attributes:
        probabilities: Calibrated, averaged over the symmetries, float64 (N, C).
        plain: The same without test-time augmentation.
        unlike: bool (N,): the image is out-of-distribution; None: the classifier has no limits.
        features: Pooled, without augmentation, float32 (N, F); None: not kept.
        left_out: Probabilities, among all classes, of those that may not be answered, float64 (N, L); None: all may.
    """

    probabilities: Array
    plain: Array
    unlike: Array | None
    features: Array | None = None
    left_out: Array | None = None

    @property
    def finite(self) -> Array:
        """Whether each image has an answer, bool (N,); if not, its probabilities are NaN."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1) & np.isfinite(self.plain).all(axis=1))

    def chosen(self, rows: Array) -> Prediction:
        """Return the prediction of some of the images, bool (N,)."""
        further = (None if one is None else one[rows] for one in (self.unlike, self.features, self.left_out))
        return Prediction(self.probabilities[rows], self.plain[rows], *further)


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Return one prediction of the images of several, at least one, by one classifier."""
    if len(parts) == 1:
        return parts[0]
    probabilities = np.concatenate([part.probabilities for part in parts])
    plain = np.concatenate([part.plain for part in parts])
    unlike = [part.unlike for part in parts if part.unlike is not None]
    features = [part.features for part in parts if part.features is not None]
    left_out = [part.left_out for part in parts if part.left_out is not None]
    further = [np.concatenate(one) if one else None for one in (unlike, features, left_out)]
    return Prediction(probabilities, plain, *further)


@dataclass
class Engine:
    """A trained classifier, ready to predict.

    Attributes:
        classes: Those that it may answer, in the order of the probabilities.
        preprocessing: Turns pictures into the net's input.
        temperature: Calibrates the probabilities.
        limits: Where it can be trusted; None: unknown.
        passes: Returns the fastest pass for a number of images.
        classifier: The LightningModule; None: the file is an exported one.
        file: Its file; None: it comes from memory.
        extractor: Computes, and may keep, features of image files; None: the file is an exported one.
        tta: The test-time augmentation of its training: none, flips or d4.
        confusion: How often it takes held-out cells of each class for each, with that augmentation; None: unknown.
        left_out: The net's other classes, in its order.
    """

    classes: list[str]
    preprocessing: Preprocessing
    temperature: float
    limits: Limits | None
    passes: Callable[[int], Pass]
    classifier: Classifier | None = None
    file: Path | None = None
    extractor: Extractor | None = None
    tta: str = "none"
    confusion: Confusion | None = None
    left_out: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the classes among the net's, if some are left out

    @property
    def known(self) -> list[str]:
        """All classes of the net."""
        return [*self.classes, *self.left_out]

    def answering(self, names: Collection[str]) -> Engine:
        """Return an engine that answers by some of the classes alone; its confusions are unknown."""
        if set(names) == set(self.classes):
            return self
        places = [place for place, name in enumerate(self.classes) if name in names]
        left_out = [name for name in self.classes if name not in names]
        classes = [self.classes[place] for place in places]
        return replace(self, classes=classes, left_out=left_out, places=places, confusion=None)

    def predict(
        self, images: Array, through: Pass | None = None, symmetries: Sequence[Symmetry] = (IDENTITY,)
    ) -> Prediction:
        """Predict one image or more.

        Args:
            images: Preprocessed images, uint8 (N, size, size, 3).
            through: The pass, if it is chosen already; several threads may share one.
            symmetries: Symmetries to average over, the identity first.
        """
        run = (through or self.passes(len(images))).run
        seen = [run(symmetry(images, [])) for symmetry in symmetries]
        found = self._prediction(np.stack([one for one, _ in seen]), seen[0][1])
        return replace(found, features=seen[0][1])

    def predict_features(self, rows: Sequence[Rows]) -> Prediction:
        """Predict images from their pooled features (N, F) of each symmetry, the identity first."""
        classifier = self.trained()
        probabilities = np.stack([probabilities_of(classifier.net, one) for one in rows])
        return self._prediction(probabilities, np.asarray(rows[0][:]) if self.limits else None)

    def _prediction(self, probabilities: Array, features: Array | None) -> Prediction:
        """Calibrate probabilities (symmetries, N, C) after averaging, so that no predicted class changes."""
        calibrated, plain = (tempered(one, self.temperature) for one in (probabilities.mean(axis=0), probabilities[0]))
        if self.limits is None or features is None:
            return self._answers(Prediction(calibrated, plain, None))
        with np.errstate(all="ignore"):
            scores = score(self.limits, features)
        calibrated = np.where(np.isfinite(scores)[:, None], calibrated, np.nan)
        return self._answers(Prediction(calibrated, plain, np.asarray(scores > self.limits.threshold)))

    def _answers(self, found: Prediction) -> Prediction:
        """Return a prediction by all classes of the net as one by those that may be answered."""
        if not self.left_out:
            return found
        probabilities, plain = (scaled(one[:, self.places]) for one in (found.probabilities, found.plain))
        left_out = np.delete(found.probabilities, self.places, axis=1)
        return replace(found, probabilities=probabilities, plain=plain, left_out=left_out)

    @property
    def keeps_features(self) -> bool:
        """Whether the features of its backbone are kept on disk."""
        return self.extractor is not None and self.extractor.root is not None

    def trained(self) -> Classifier:
        """Return the classifier; raise BloodcellError if the file is an exported one."""
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
    """Make an engine of a trained classifier, whose net must not change any more.

    `file` is its checkpoint. Backend and precision are those of `Backbone`; root and workers those of `Extractor`.
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
    return Engine(*known, passes, classifier, file, extractor, classifier.inference.tta, classifier.confusion)
