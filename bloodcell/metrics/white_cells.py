"""Which classes are white cells: a differential count is one of white cells, and others stand beside it.

Nucleated red cells are told per 100 white cells, as laboratories do; platelets are counted by other methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloodcell.metrics.parts import Floats

#: Classes that are no white cells: in lower case, with spaces between words, and without the s of a plural.
NOT_WHITE = frozenset(
    {
        "artefact",
        "artifact",
        "debris",
        "erythroblast",
        "erythrocyte",
        "giant platelet",
        "normoblast",
        "nrbc",
        "nucleated rbc",
        "nucleated red blood cell",
        "nucleated red cell",
        "platelet",
        "platelet clump",
        "proerythroblast",
        "rbc",
        "red blood cell",
        "red cell",
        "thrombocyte",
    }
)


def is_white(name: str) -> bool:
    """Return whether a class is one of white cells, by its name; a name that is not known is."""
    plain = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    return plain not in NOT_WHITE and plain.removesuffix("s") not in NOT_WHITE


def white_among(classes: Sequence[str]) -> Floats:
    """Return 1 for each class that is one of white cells, else 0, (K,)."""
    return np.array([float(is_white(name)) for name in classes])
