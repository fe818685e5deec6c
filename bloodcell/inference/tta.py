"""Test-time augmentation by symmetries of the square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.runtime.errors import BloodcellError

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Symmetry:
    """One symmetry of the square, a fixed view of each image.

    Args:
        turns: Quarter turns, counter-clockwise, 0 to 3.
        mirrored: Left and right are swapped first.
    """

    turns: int = 0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """The suffix of an image's name in the feature store; the identity has none."""
        return f"|{'mirrored ' if self.mirrored else ''}turned {self.turns}" if self.turns or self.mirrored else ""

    def __call__(self, images: Array, _: Sequence[str]) -> Array:
        """Return the transformed images, uint8 (N, size, size, 3)."""
        turned = np.rot90(images[:, :, ::-1] if self.mirrored else images, self.turns, axes=(1, 2))
        return np.ascontiguousarray(turned)


IDENTITY = Symmetry()

#: `tta` -> the symmetries to average over, the identity first.
SYMMETRIES = {
    "none": (IDENTITY,),
    "flips": tuple(Symmetry(turns, mirrored) for turns in (0, 2) for mirrored in (False, True)),
    "d4": tuple(Symmetry(turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}


def as_trained(asked: str | None, trained: Sequence[str]) -> str:
    """Return the test-time augmentation that is asked for, else the largest that any of the classifiers had."""
    return asked or max(trained, key=list(SYMMETRIES).index)


def symmetries(tta: str) -> tuple[Symmetry, ...]:
    """Return the symmetries of a `tta`; raise BloodcellError if it is unknown."""
    if tta not in SYMMETRIES:
        raise BloodcellError(f"tta={tta}; choose none, flips or d4")
    return SYMMETRIES[tta]
