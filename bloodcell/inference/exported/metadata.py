"""The description in an exported file: all that inference needs besides the graph."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.models.ood import Limits, from_plain
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.data import InferenceConfig
from bloodcell.runtime.version import __version__

#: Name of the graph's input, and its axes of free size.
INPUT, AXES = "images", ("batch", "height", "width")
#: Names of its outputs; `unlike` is one of them if the classifier has limits.
OUTPUTS, UNLIKE = ("probabilities", "logits", "features"), "unlike"
#: Key of the description, as JSON, in a file's metadata.
KEY = "bloodcell"
#: Version of the layout of file and description; a file of any other is refused.
FORMAT = 1


@dataclass(frozen=True)
class About:
    """An exported classifier.

    Attributes:
        classes: In the order of the probabilities.
        temperature: Calibrates `probabilities`; `logits` are not calibrated.
        preprocessing: Turns pictures into images. The graph resizes by itself and does not look for the cell.
        model: Name of the backbone.
        source: SHA-256 of the checkpoint, and the fingerprint of its run, '' if it lies in none.
        limits: The classifier's out-of-distribution limits and promised error rates.
        tta: The test-time augmentation of the training, with which bloodcell predicts; the graph has none.
        release: The release of this package that wrote the file.
        precision: float32, or int8 if the graph computes in integers.
    """

    classes: list[str]
    temperature: float
    preprocessing: Preprocessing
    model: str
    source: tuple[str, str]
    limits: Limits | None = None
    tta: str = "none"
    release: str = __version__
    precision: str = "float32"

    def text(self) -> str:
        """Return the description as JSON."""
        described = {
            "format": FORMAT,
            "version": self.release,
            "model": self.model,
            "classes": self.classes,
            "temperature": self.temperature,
            "preprocessing": self.preprocessing.as_dict(),
            "checkpoint_sha256": self.source[0],
            "run_fingerprint": self.source[1],
            "input": "images: uint8 (N, H, W, 3), RGB, upright, of any size; the graph resizes and normalises, "
            "and does not look for the cell (preprocessing.crop)",
            "tta": self.tta,
            "precision": self.precision,
            "limits": None if self.limits is None else _packed(self.limits),
        }
        return json.dumps(described, ensure_ascii=False)


def read_about(text: Any) -> About:
    """Return the description that `About.text` wrote.

    Raises:
        BloodcellError: It is another program's, of another format, or incomplete.
    """
    try:
        plain = json.loads(text)
        form = plain["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BloodcellError("bloodcell did not export it: it does not name its classes") from error
    if form != FORMAT:
        raise BloodcellError(f"its format is {form!r}, and this release reads format {FORMAT}; export the run again")
    try:
        return _checked(plain)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BloodcellError("its description is incomplete; the file is damaged") from error


def _checked(plain: dict[str, Any]) -> About:
    classes, temperature = plain["classes"], plain["temperature"]
    names = isinstance(classes, list) and len(classes) > 1 and all(isinstance(name, str) and name for name in classes)
    if not names or len(set(classes)) < len(classes):
        raise ValueError("classes")
    if not isinstance(temperature, float) or not 0 < temperature < math.inf:
        raise ValueError("temperature")
    limits = None if plain["limits"] is None else from_plain(_unpacked(plain["limits"]))
    if limits and len(limits.means) != len(classes):
        raise ValueError("limits")
    source = str(plain["checkpoint_sha256"]), str(plain["run_fingerprint"])
    preprocessing = Preprocessing(**plain["preprocessing"])
    tta = InferenceConfig(tta=plain.get("tta", "none")).tta  # an older file does not say
    known = classes, temperature, preprocessing, str(plain["model"]), source, limits, tta, str(plain["version"])
    return About(*known, str(plain.get("precision", "float32")))


def _packed(limits: Limits) -> dict[str, Any]:
    """Return limits as plain values; float32 arrays as their shape and their bytes in base64, lowest byte first."""
    packed = {
        name: {"shape": list(array.shape), "float32": base64.b64encode(array.astype("<f4").tobytes()).decode()}
        for name, array in (("means", limits.means), ("whitening", limits.whitening))
    }
    return {**vars(limits), **packed}


def _unpacked(plain: dict[str, Any]) -> dict[str, Any]:
    arrays = {}
    for name in ("means", "whitening"):
        content = base64.b64decode(plain[name]["float32"], validate=True)
        arrays[name] = np.frombuffer(content, "<f4").reshape(plain[name]["shape"])
    return {**plain, **arrays}
