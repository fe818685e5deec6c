"""What the page of a folder rests on: the reader, its cells, and what humans have decided on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from bloodcell.data.decision_feed import DecisionFeed
from bloodcell.evaluation.reviews.cell_decisions import CellDecisions
from bloodcell.evaluation.reviews.folder_cells import Cells, Folder, Reader
from bloodcell.evaluation.reviews.training_examples import TrainingExamples
from bloodcell.inference.engine import Engine
from bloodcell.runtime.errors import BloodcellError

#: Seconds that the pictures which are being judged have as the page ends.
PATIENCE = 10


@dataclass(frozen=True)
class Sheet:
    """The judged cells of a reader with the decisions on them."""

    reader: Reader
    cells: Cells
    decisions: CellDecisions
    examples: TrainingExamples


class Desk:
    """Judges the cells of a folder in a thread of its own, and keeps the decisions on them.

    Args:
        folder: The pictures.
        file: The corrections file.
        who: The name of the person who decides.
        read: Makes the reader of some classifiers.
        slides: The slide of each picture.
    """

    def __init__(
        self, folder: Folder, file: Path, who: str, read: Callable[[list[Engine]], Reader], slides: dict[str, str]
    ) -> None:
        self.folder, self.file, self.who, self.read, self.slides = folder, file, who, read, slides
        self.sheet: Sheet | None = None
        self.failed, self.done, self.of, self.stop = "", 0, len(folder.files), Event()
        self.turn = Lock()  # of those who write or read decisions
        self.judging = False
        self._thread: Thread | None = None

    def judge(self, reader: Reader) -> None:
        """Begin to judge the cells with a reader; the sheet changes when all are judged."""
        self.failed, self.done, self.judging = "", 0, True
        self._thread = Thread(target=self._judged, args=(reader,), name="judge", daemon=True)
        self._thread.start()

    def _judged(self, reader: Reader) -> None:
        try:
            reader.judge(self._advance, stop=self.stop)
            if self.stop.is_set():
                return
            examples = TrainingExamples(reader.ensemble.engines[0], reader.store)
            cells = reader.table()
            with self.turn:
                feed = DecisionFeed(self.file, reader.ensemble.engines[0].known)
                decisions = CellDecisions(feed, cells, self.who, self.slides)
                self.sheet, self.judging = Sheet(reader, cells, decisions, examples), False
            examples.judge(reader.ensemble.tta, stop=self.stop)
        except BloodcellError as error:
            self.failed, self.judging = str(error), False

    def _advance(self, done: int, of: int) -> None:
        self.done, self.of = done, of

    def close(self) -> None:
        """Stop judging after the pictures that are being judged; what is judged is kept."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def state(self) -> dict[str, Any]:
        """Return plain values: whether cells are being judged, how many pictures are done, and which sheet is there."""
        sheet = self.sheet
        return {
            "judging": self.judging,
            "done": self.done,
            "of": self.of,
            "failed": self.failed,
            "digest": sheet.cells.digest if sheet else "",
            "version": self.refresh(sheet) if sheet else 0,
        }

    def refresh(self, sheet: Sheet) -> int:
        """Read the decisions that other programs have added, and return the version of all.

        Raises:
            BloodcellError: The corrections file is wrong.
        """
        with self.turn:
            sheet.decisions.refresh()
            return sheet.decisions.version
