"""The outcome of an audit, and what it says in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

#: In the order in which the verdict speaks of them.
_TESTS = ("test", "test_simple")
_NAMES = {"train": "training", "val": "validation", "test": "test", "test_simple": "simple test"}


@dataclass(frozen=True)
class Audit:
    """What is known of the provenance of a data set.

    Attributes:
        samples: The samples that were audited: path, label, split.
        sources: A row an image, in the order of the samples: path, source (the physical cell), photograph
            (bare name of the original; empty without originals or match), evidence (matched key points, 0 for
            an image that matches nothing), strength (strong, weak or none).
        leaks: Sources on two sides of the splits, with an example pair; see `tables.LEAK_COLUMNS`.
        conflicts: Sources whose images carry different labels; see `tables.CONFLICT_COLUMNS`.
        duplicates: Files that are there twice; see `tables.DUPLICATE_COLUMNS`.
        unreadable: path and reason of each file that is no image.
        with_originals: Whether original photographs were at hand.
    """

    samples: pd.DataFrame
    sources: pd.DataFrame
    leaks: pd.DataFrame
    conflicts: pd.DataFrame
    duplicates: pd.DataFrame
    unreadable: pd.DataFrame
    with_originals: bool

    def verdict(self) -> str:
        """Return plain sentences, one a line: what an honest accuracy can rest on, leaks, contradictions."""
        return "\n".join([*self._support(), *self._leaks(), *self._conflicts(), *self._files()])

    def shared(self, train: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
        """Return how many images, and sources, of one set of paths have a source in another set.

        Args:
            train: Paths of the training images.
            other: Paths of the images to be judged.
        """
        source = self.sources.set_index("path")["source"]
        known = set(source.reindex(list(train)).dropna())
        judged = source.reindex(list(other)).dropna()
        hit = judged[judged.isin(known)]
        return len(hit), int(hit.nunique())

    def _table(self) -> pd.DataFrame:
        table = self.samples.assign(source=self.sources["source"].to_numpy())
        table["split"] = table["split"].fillna("")
        return table[~table["path"].isin(set(self.unreadable["path"]))]

    def _support(self) -> list[str]:
        """Say how many cells stand behind each split, and the class that has the fewest."""
        table, lines = self._table(), []
        splits = [split for split in ("train", "val", *_TESTS, "") if (table["split"] == split).any()]
        for split in splits:
            part = table[table["split"] == split]
            cells = part.groupby("label")["source"].nunique().sort_values(kind="stable")
            name = f"{_NAMES[split]} " if split else ""
            line = f"{_count(len(part), name + 'image')} {_show(len(part))} {_count(part['source'].nunique(), 'cell')}"
            lines.append(f"{line}; {cells.iloc[0]} of class {cells.index[0]}.")
        rests = [split for split in splits if split in _TESTS] or splits
        if rests:
            cells = table[table["split"] == rests[0]]["source"].nunique()
            lines.append(f"An honest accuracy rests on {_count(cells, 'cell')}, not on the number of images.")
        return lines

    def _leaks(self) -> list[str]:
        """Say which splits share cells, and how many images that concerns."""
        table, lines = self._table(), []
        for (a, b), rows in self.leaks.groupby(["split_a", "split_b"], sort=False):
            first, second = sorted((a, b), key=list(_NAMES).index) if {a, b} <= set(_NAMES) else (a, b)
            images = int(((table["split"] == second) & table["source"].isin(set(rows["source"]))).sum())
            cells, names = _count(len(rows), "cell"), (_NAMES.get(second, second), _NAMES.get(first, first))
            have = "has" if images == 1 else "have"
            if {first, second} <= set(_TESTS):
                lines.append(
                    f"{_count(images, names[0] + ' image')} {_show(images)} {cells} of the {names[1]} set too."
                )
            else:
                lines.append(f"Leak: {_count(images, names[0] + ' image')} {have} {cells} in common with {names[1]}.")
        splits = table["split"][table["split"] != ""].nunique()
        return lines or (["No cell lies on two sides of the split."] if splits > 1 else [])

    def _conflicts(self) -> list[str]:
        count = self.conflicts["source"].nunique()
        if not count:
            return []
        row = self.conflicts.iloc[0]
        verb = "carries" if count == 1 else "carry"
        return [f"{_count(count, 'cell')} {verb} different labels, {row.source}: {row.label_a} and {row.label_b}."]

    def _files(self) -> list[str]:
        lines = []
        if len(self.duplicates):
            copies = len(self.duplicates) - self.duplicates["group"].nunique()
            verb = "repeats" if copies == 1 else "repeat"
            lines.append(f"{_count(copies, 'file')} {verb} the picture of another file.")
        if len(self.unreadable):
            lines.append(f"{_count(len(self.unreadable), 'file')} cannot be read, {self.unreadable['path'].iloc[0]}.")
        alone = int((self.sources["strength"] == "none").sum()) - len(self.unreadable)
        if alone > 0:
            verb = "matches" if alone == 1 else "match"
            lines.append(f"{_count(alone, 'image')} {verb} nothing and {_count_as(alone)}.")
        return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _count_as(number: int) -> str:
    return "counts as a cell of its own" if number == 1 else "count as cells of their own"


def _show(number: int) -> str:
    return "shows" if number == 1 else "show"
