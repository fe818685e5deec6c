"""The rows of groups on their way into the table: those of a whole slide come in parts, and are one picture's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bloodcell.data.cells import Cell
from bloodcell.data.image_paths import relative_to
from bloodcell.inference.confirmed_rows import ConfirmedRows
from bloodcell.inference.fields.files import FieldFiles
from bloodcell.inference.fields.overlays import marks_of
from bloodcell.inference.fields.slide_parts import SlidePart, part_of, pooled
from bloodcell.inference.groups import Field, Group
from bloodcell.inference.prediction_rows import rows_of, written_row
from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.metrics.predictions import PROBABILITY


@dataclass
class TableRows:
    """Writes the rows of groups into a table, each group a step.

    Attributes:
        table: The table.
        classes: In the order of the probabilities.
        columns: Of the table.
        threshold: Confidence below which an image or cell is left to a human.
        base: The folder that paths are relative to; ''.
        files: Written for a whole slide before its last rows; None: there are none.
        decided: Fills the column confirmed; None: there is none.
    """

    table: ResumableCsv
    classes: list[str]
    columns: list[str]
    threshold: float
    base: str
    files: FieldFiles | None
    decided: ConfirmedRows | None = None
    bad: str = ""  # the whole slide that turned out to be bad, whose other parts are left out

    def add(self, group: Group) -> None:
        """Write the rows of a group, the next one."""
        if (part := part_of(group.given)) is not None:
            self._add_part(group, part)
            return
        rows, bad, numbers = rows_of(group, self.classes, self.threshold)
        numbers |= self.decided.fill(rows, group) if self.decided else {}
        chosen = [written_row(row, self.columns, self.base) for row in rows]
        self.table.add(group.given, chosen, [(relative_to(path, self.base), reason) for path, reason in bad], numbers)

    def _add_part(self, group: Group, part: SlidePart) -> None:
        if part.path == self.bad:
            return
        if group.bad:  # a table of half a slide would look like one of a slide
            self.bad = part.path
            self.table.withdraw()
            reason = relative_to(part.path, self.base), group.bad[0][1]
            _, _, numbers = rows_of(group, self.classes, self.threshold)
            self.table.add([part.path], [], [reason], numbers)
            return
        begun = self.table.progress.begun
        before = begun.rows if begun else 0
        found = pooled(group, part, begun.kept if begun else [])
        rows, _, numbers = rows_of(found.group, self.classes, self.threshold)
        numbers |= self.decided.fill_part(rows, part.path, part.is_last) if self.decided else {}
        numbers |= {"images": int(part.is_last), "without cell": int(part.is_last and not before + len(rows))}
        chosen = [written_row(row | {"number": row["number"] + before}, self.columns, self.base) for row in rows]
        if not part.is_last:
            self.table.add_step(part.of, chosen, numbers, len(chosen), found.kept)
            return
        if self.files:
            self.files.write_slide(*self._slide(part.path, chosen))
        self.table.add([part.path], chosen, [], numbers)

    def _slide(self, path: str, last: list[list[Any]]) -> tuple[Field, np.ndarray[Any, np.dtype[Any]], list[str]]:
        """Return a whole slide as a field without its picture, and the probabilities and marks of its cells."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in [*self.table.since(), *last]]
        cells = [Cell(int(row["left"]), int(row["top"]), int(row["width"]), int(row["height"])) for row in rows]
        chances = [[float(row[PROBABILITY + name]) for name in self.classes] for row in rows]
        found = np.array(chances, float).reshape(-1, len(self.classes))
        unlike = [str(row.get("unlike")) == "True" for row in rows]
        marks = marks_of(found, self.threshold, unlike, [str(row.get("other") or "") for row in rows])
        return Field(path, cells, ""), found, marks
