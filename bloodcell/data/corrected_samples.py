"""Pictures of one cell each with the labels that humans have given them, for a training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bloodcell.data.confirmed_cells import confirmed, is_class
from bloodcell.data.corrections import read_corrections
from bloodcell.runtime.console import counted, say
from bloodcell.runtime.errors import BloodcellError


def is_corrections(rows: pd.DataFrame) -> bool:
    """Return whether a table has the columns of a corrections file."""
    return {"path", "cell", "label", "who", "when", "predicted"} <= set(rows.columns)


def confirmed_pictures(file: Path) -> pd.DataFrame:
    """Return the columns path and label of the pictures whose class is known by a corrections file.

    A note says how many others there are.

    Raises:
        BloodcellError: The file is wrong, has no such picture, or decisions on cells of fields.
    """
    by_path = read_corrections(file).by_path()
    if fields := [path for path, decisions in by_path.items() if any(one.cell is not None for one in decisions)]:
        raise BloodcellError(
            f"{file} has decisions on cells of fields, e.g. of {fields[0]}; a training takes pictures of one cell each"
        )
    labels = {path: confirmed(decisions, None).labels[0] for path, decisions in by_path.items()}
    known = {path: label for path, label in labels.items() if is_class(label)}
    if not known:
        raise BloodcellError(f"{file} has no picture with a class")
    if others := len(labels) - len(known):
        say(f"note: {file}: {counted(others, 'picture')} without a class on which all readers agree, left out")
    return pd.DataFrame({"path": list(known), "label": list(known.values())})
