"""What humans have decided, beside the predictions of a table that is written picture by picture."""

from __future__ import annotations

from pathlib import Path

from bloodcell.data.confirmed_cells import confirmed, is_class
from bloodcell.data.correction_lines import BOX
from bloodcell.data.corrections import Box, read_corrections
from bloodcell.data.image_paths import relative_to
from bloodcell.inference.groups import Group
from bloodcell.inference.prediction_rows import Row
from bloodcell.runtime.console import counted


class ConfirmedRows:
    """Fills the column confirmed by a corrections file.

    Args:
        file: The file, read once.
        classes: Of the classifier.
        base: The folder that paths of the table are relative to; '' if there is none.

    Raises:
        BloodcellError: The file cannot be read, or a row is wrong.
    """

    def __init__(self, file: str, classes: list[str], base: str) -> None:
        self.corrections = read_corrections(Path(file).expanduser(), classes)
        self.by_path, self.base = self.corrections.by_path(), base

    def fill(self, rows: list[Row], group: Group) -> dict[str, int]:
        """Set confirmed in a group's rows, and return counts.

        They are the rows that are confirmed, the decisions on the pictures, and those of them that match no cell.
        """
        of_picture: dict[str, list[Row]] = {name: [] for name in group.given}
        for row in rows:
            row["confirmed"] = ""
            of_picture[row["path"]].append(row)
        counts = {"confirmed": 0, "decisions": 0, "unmatched": 0}
        for name, own in of_picture.items():
            decisions = self.by_path.get(self._written(name), [])
            found = confirmed(decisions, None if own and group.fields is None else [_box(row) for row in own])
            for row, label in zip(own, found.labels * (len(own) if group.fields is None else 1), strict=True):
                row["confirmed"] = label
                counts["confirmed"] += is_class(label)
            counts["decisions"] += confirmed(decisions, []).unmatched
            counts["unmatched"] += found.unmatched
        return counts

    def fill_part(self, rows: list[Row], name: str, is_last: bool) -> dict[str, int]:
        """Do the same for a part of a whole slide; only the counts of all its parts together are those of the slide."""
        decisions = self.by_path.get(self._written(name), [])
        found, every = confirmed(decisions, [_box(row) for row in rows]), confirmed(decisions, []).unmatched
        for row, label in zip(rows, found.labels, strict=True):
            row["confirmed"] = label
        matched, whole = every - found.unmatched, every if is_last else 0
        return {"confirmed": sum(map(is_class, found.labels)), "decisions": whole, "unmatched": whole - matched}

    def _written(self, name: str) -> str:
        return relative_to(name, self.base).encode(errors="backslashreplace").decode()

    def note(self, counts: dict[str, int]) -> str:
        """Return a sentence on the decisions that match no cell, by the counts of all pictures; '' if all do."""
        everywhere = sum(confirmed(decisions, []).unmatched for decisions in self.by_path.values())
        others, here = everywhere - counts.get("decisions", 0), counts.get("unmatched", 0)
        if not others + here:
            return ""
        total = counted(others + here, "decision")
        return (
            f"note: {total} of {self.corrections.file} not used, as no cell matches: {others:,} on pictures that are "
            f"not here, {here:,} where no cell is found"
        )


def _box(row: Row) -> Box:
    left, top, width, height = (float(row[name]) for name in BOX)
    return left, top, width, height
