"""Whether an exported file answers as the checkpoint does, on real images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell.data.cell_finder import cut
from bloodcell.data.images import ImageError
from bloodcell.data.preprocessing import as_array
from bloodcell.data.samples import read_samples
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.inference.engine import Engine
from bloodcell.inference.exported.loaded import Opened, engine_of_opened
from bloodcell.runtime import run_folder
from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]

#: The most that a probability may differ by.
TOLERANCE = 1e-4
#: Pictures that are judged: of so many files, each whole and a part of it.
FILES = 12
SEED = 0


@dataclass(frozen=True)
class Pictures:
    """What the checkpoint and the file are compared on.

    Attributes:
        what: Which they are, in words.
        each: uint8 (H, W, 3), of different sizes.
    """

    what: str
    each: list[Array]


def pictures_of(checkpoint: Path) -> Pictures:
    """Return validation images of the run, else other images of it, else painted cells; half of them are parts.

    Args:
        checkpoint: In its run folder, or alone.
    """
    run = run_folder.run_of(checkpoint)
    if run and (run / "samples.csv").is_file():
        samples = read_samples(run / "samples.csv")
        for split in ("val", "train"):
            part = samples.of_split(split)
            files = [part.paths()[i] for i in _spread(len(part.table))]
            if len(whole := _read(files)) == len(files) > 0:
                return Pictures(f"{len(whole)} {split} images and {len(whole)} parts of them", _with_parts(whole))
    whole = _painted()
    return Pictures(f"{len(whole)} painted cells and {len(whole)} parts of them", _with_parts(whole))


def check(found: Opened, engine: Engine, pictures: Pictures) -> float:
    """Return the largest difference of a probability between a file and the checkpoint that it is of.

    The file is asked as `predict` asks it, one image and all at once, and as others will ask it: for `probabilities`
    of pictures of any size, one and two of a size at once, where the cell is looked for of the square around it.

    Args:
        found: The file.
        engine: Of the checkpoint, by eager PyTorch.
        pictures: Those to compare on.

    Raises:
        BloodcellError: They differ by `TOLERANCE` or more.
    """
    prepared = engine.preprocessing.prepare(pictures.each)
    images = np.stack([pixels for pixels, _ in prepared])
    expected = engine.predict(images).probabilities
    own = engine_of_opened(found, Path())
    answers = [
        own.predict(images).probabilities,
        np.concatenate([own.predict(one[None]).probabilities for one in images]),
    ]
    squares = [
        cut(picture, *square) if square else picture
        for picture, (_, square) in zip(pictures.each, prepared, strict=True)
    ]
    for copies in (1, 2):
        answers.append(np.stack([found.run(np.stack([one] * copies))["probabilities"][-1] for one in squares]))
    worst = float(max(np.abs(answer - expected).max() for answer in answers))
    if not worst < TOLERANCE:
        raise BloodcellError(
            f"the exported net answers otherwise than the checkpoint: a probability differs by {worst:.2g} "
            f"on {pictures.what}, where {TOLERANCE:g} is allowed; nothing is written"
        )
    return worst


def _spread(count: int) -> list[int]:
    """Return the places of `FILES` of so many, or of all, evenly spread."""
    return [int(place) for place in np.linspace(0, count - 1, min(FILES, count))]


def _read(files: list[str]) -> list[Array]:
    """Return the pictures of files; those that cannot be read are missing."""
    read = []
    for file in files:
        try:
            read.append(as_array(file))
        except ImageError:
            continue
    return read


def _with_parts(whole: list[Array]) -> list[Array]:
    """Return pictures, and of each a part of a size and shape of its own."""
    generator, parts = np.random.default_rng(SEED), []
    for picture in whole:
        height, width = (int(side * generator.uniform(0.4, 0.9)) + 1 for side in picture.shape[:2])
        parts.append(np.ascontiguousarray(picture[-height:, -width:]))
    return [*whole, *parts]


def _painted() -> list[Array]:
    """Return pictures of painted cells, of each class alike."""
    generator, each = np.random.default_rng(SEED), range(FILES // len(CLASSES))
    return [paint_photograph(name, generator)[0] for name in CLASSES for _ in each]
