"""Test-time augmentation: the symmetries of the square under which a cell stays the cell that it is."""

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
        mirrored: Left and right are changed over first.
    """

    turns: int = 0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """What it adds to the name under which an image's features are kept; the identity adds nothing."""
        return f"|{'mirrored ' if self.mirrored else ''}turned {self.turns}" if self.turns or self.mirrored else ""

    def __call__(self, images: Array, _: Sequence[str]) -> Array:
        """Return the images as this symmetry shows them: uint8 (N, size, size, 3), whatever their files."""
        turned = np.rot90(images[:, :, ::-1] if self.mirrored else images, self.turns, axes=(1, 2))
        return np.ascontiguousarray(turned)


IDENTITY = Symmetry()

#: What `tta` may be -> the symmetries whose probabilities are averaged; the identity is the first.
SYMMETRIES = {
    "none": (IDENTITY,),
    "flips": tuple(Symmetry(turns, mirrored) for turns in (0, 2) for mirrored in (False, True)),
    "d4": tuple(Symmetry(turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}


def symmetries(tta: str) -> tuple[Symmetry, ...]:
    """Return the symmetries that a choice of `tta` averages.

    Raises:
        BloodcellError: There is no such choice.
    """
    if tta not in SYMMETRIES:
        raise BloodcellError(f"tta={tta}; choose none, flips or d4")
    return SYMMETRIES[tta]
