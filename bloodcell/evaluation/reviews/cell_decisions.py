"""What readers have decided on the cells of a folder, kept in step with the corrections file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bloodcell.data.confirmed_cells import confirmed, is_class
from bloodcell.data.correction_lines import BOX
from bloodcell.data.corrections import CANNOT_TELL, Box, Decision, now
from bloodcell.data.decision_feed import DecisionFeed
from bloodcell.evaluation.reviews.folder_cells import Cells
from bloodcell.metrics.agreement import kappa
from bloodcell.metrics.intervals import Estimate

#: What the agreement calls the classifier.
READER = "the classifier"


@dataclass(frozen=True)
class Agreement:
    """Of two readers on the cells that both have labelled; "cannot tell" is no label."""

    first: str
    second: str
    cells: int
    agreed: int
    kappa: Estimate | None  # None: not defined, for both gave all cells one and the same label


class CellDecisions:
    """The decisions on the cells of a folder.

    Args:
        feed: Of the corrections file.
        cells: The cells; their rows are numbered from 0.
        who: The person whose own labels are asked for.
        slides: The slide of each picture.

    Attributes:
        own: The label that this person has given each cell; '': none.
        labels: What all persons say on each cell, see `bloodcell.data.confirmed_cells.Confirmed`.
        version: A number that grows with each change.
    """

    def __init__(self, feed: DecisionFeed, cells: Cells, who: str, slides: dict[str, str]) -> None:
        self.feed, self.cells, self.who = feed, cells, who
        self._slides = [slides[path] for path in cells.table["path"]]
        self.own, self.labels = [""] * len(cells.ids), [""] * len(cells.ids)
        self.version = 0
        self._rows = {path: rows.tolist() for path, rows in cells.table.groupby("path", sort=False).indices.items()}
        self._boxes: list[Box] | None = None
        if cells.of_fields:
            self._boxes = list(map(tuple, cells.table[list(BOX)].to_numpy(float).tolist()))
        self._by_path: dict[str, list[Decision]] = {}
        self._taken, self._reading = 0, feed.readings
        self._update({one.path for one in feed.decisions})

    def refresh(self) -> None:
        """Read what this program or others have added to the file."""
        self._update(self.feed.refresh())

    def decide(self, decided: Sequence[tuple[int, str]], when: str | None = None) -> None:
        """Keep labels of cells, (row, label), on the disk; '' takes back.

        Raises:
            BloodcellError: They cannot be kept.
        """
        when = when or now()
        self._update(self.feed.add([self._decision(row, label, when) for row, label in decided]))

    def _decision(self, row: int, label: str, when: str) -> Decision:
        cell = self.cells.table.iloc[row]
        number, box = (int(cell["number"]), self._boxes[row]) if self._boxes else (None, None)
        predicted = str(cell["prediction"])
        return Decision(
            path=cell["path"], label=label, who=self.who, when=when, predicted=predicted, cell=number, box=box
        )

    def _update(self, paths: set[str]) -> None:
        if not paths:
            return
        decisions = self.feed.decisions
        if self._reading != self.feed.readings:
            self._by_path, self._taken, self._reading = {}, 0, self.feed.readings
        for one in decisions[self._taken :]:
            self._by_path.setdefault(one.path, []).append(one)
        self._taken = len(decisions)
        for path in paths & self._rows.keys():
            said = self._by_path.get(path, [])
            self._set(path, self.labels, said)
            self._set(path, self.own, [one for one in said if one.who == self.who])
        self.version += 1

    def _set(self, path: str, labels: list[str], said: list[Decision]) -> None:
        rows = self._rows[path]
        for row, label in zip(rows, self._labels(path, said), strict=True):
            labels[row] = label

    def _labels(self, path: str, said: list[Decision]) -> list[str]:
        rows = self._rows[path]
        boxes = [self._boxes[row] for row in rows] if self._boxes else None
        return confirmed(said, boxes).labels * (len(rows) if boxes is None else 1)

    def open_rows(self) -> Any:
        """Return whether nobody has decided on each cell, a list of bool."""
        return [not label for label in self.labels]

    def agreements(self) -> list[Agreement]:
        """Return the agreement of each two persons, and of each with what the classifier had said to them."""
        persons = sorted({one.who for one in self.feed.decisions})
        labels = {who: self._labels_of(who) for who in persons}
        found = [self._agreement(one, other, labels[one], labels[other]) for one, other in combinations(persons, 2)]
        found += [self._agreement(who, READER, _classes(labels[who]), self._said_to(who)) for who in persons]
        return [one for one in found if one.cells]

    def _labels_of(self, who: str) -> dict[int, str]:
        """Return the label of each cell on which a person has decided."""
        found: dict[int, str] = {}
        for path in self._rows.keys() & self._by_path.keys():
            own = [one for one in self._by_path[path] if one.who == who]
            found.update(zip(self._rows[path], self._labels(path, own), strict=True))
        return {row: label for row, label in found.items() if label not in ("", CANNOT_TELL)}

    def _said_to(self, who: str) -> dict[int, str]:
        """Return what the classifier had predicted of the cells as a person decided on them."""
        places = {}
        for one in self.feed.decisions:
            if one.who == who and one.predicted:
                places[one.path, one.cell] = one.predicted
        numbers = self.cells.table["number"].tolist() if self._boxes else [None] * len(self.own)
        keys = zip(self.cells.table["path"], numbers, strict=True)
        return {row: places[key] for row, key in enumerate(keys) if key in places}

    def _agreement(self, first: str, second: str, one: dict[int, str], other: dict[int, str]) -> Agreement:
        both = sorted(one.keys() & other.keys())
        labels = [one[row] for row in both], [other[row] for row in both]
        agreed = sum(left == right for left, right in zip(*labels, strict=True))
        found = kappa(*labels, [self._slides[row] for row in both])
        return Agreement(first or "no name", second or "no name", len(both), agreed, found)


def _classes(labels: dict[int, str]) -> dict[int, str]:
    """Return the cells with a class, for the classifier knows nothing else."""
    return {row: label for row, label in labels.items() if is_class(label)}
