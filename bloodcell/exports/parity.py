"""The comparison of an exported file with its checkpoint, on real images."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.data.cell_finder import cut
from bloodcell.data.image_limits import ImageError
from bloodcell.data.preprocessing import as_array
from bloodcell.data.samples import read_samples
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.exports.formats import Probabilities
from bloodcell.inference.engine import Engine
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]

#: The largest difference of a probability that is allowed.
TOLERANCE = 1e-4
#: Files whose pictures are compared, each whole and a part of it.
FILES = 12
SEED = 0


@dataclass(frozen=True)
class Pictures:
    """The pictures that the checkpoint and the file are compared on."""

    what: str  # their description, for messages
    each: list[Array]  # uint8 (H, W, 3), of different sizes


def pictures_of(checkpoint: Path, white: float | None = None) -> Pictures:
    """Return validation images of a checkpoint's run, else training images, else painted cells; and a part of each.

    `white` is that of the checkpoint's preprocessing.
    """
    run = run_folder.run_of(checkpoint)
    if run and (run / "samples.csv").is_file():
        samples = read_samples(run / "samples.csv")
        for split in ("val", "train"):
            files = samples.of_split(split).paths()
            spread = np.linspace(0, len(files) - 1, min(FILES, len(files))).astype(int)
            with suppress(ImageError):
                if whole := [as_array(files[place], white) for place in spread]:
                    return _with_parts(whole, f"{split} images")
    generator, each = np.random.default_rng(SEED), range(FILES // len(CLASSES))
    return _with_parts([paint_photograph(name, generator)[0] for name in CLASSES for _ in each], "painted cells")


def check(run: Probabilities, checkpoint: Engine, pictures: Pictures, own: Engine | None = None) -> float:
    """Return the largest difference between a probability from a file and the same one from its checkpoint.

    Each image is given alone and together with others: as the preprocessing makes it, and as another program gives it,
    a picture of any size, which is the square around the cell if the classifier looks for cells.

    Args:
        run: Runs the file as other programs do.
        checkpoint: The engine of the checkpoint, in eager PyTorch.
        pictures: The pictures to compare on.
        own: The engine that `predict` makes of the file, if it reads files of this format.

    Raises:
        BloodcellError: They differ by `TOLERANCE` or more.
    """
    prepared = checkpoint.preprocessing.prepare(pictures.each)
    images = np.stack([pixels for pixels, _ in prepared])
    expected = checkpoint.predict(images).probabilities
    answers = [run(images), np.concatenate([run(one[None]) for one in images])]
    if own is not None:
        answers += [own.predict(images).probabilities]
        answers += [np.concatenate([own.predict(one[None]).probabilities for one in images])]
    squares = [
        cut(picture, *square) if square else picture
        for picture, (_, square) in zip(pictures.each, prepared, strict=True)
    ]
    for copies in (1, 2):
        answers.append(np.stack([run(np.stack([one] * copies))[-1] for one in squares]))
    largest = float(max(np.abs(answer - expected).max() for answer in answers))
    if not largest < TOLERANCE:
        raise BloodcellError(
            f"the exported net answers otherwise than the checkpoint: a probability differs by {largest:.2g} "
            f"on {pictures.what}, and {TOLERANCE:g} is allowed; nothing is written"
        )
    return largest


def _with_parts(whole: list[Array], what: str) -> Pictures:
    """Return pictures, and a part of each, of random size and shape."""
    generator, parts = np.random.default_rng(SEED), []
    for picture in whole:
        height, width = (int(side * generator.uniform(0.4, 0.9)) + 1 for side in picture.shape[:2])
        parts.append(np.ascontiguousarray(picture[-height:, -width:]))
    return Pictures(f"{len(whole)} {what} and {len(whole)} parts of them", [*whole, *parts])
