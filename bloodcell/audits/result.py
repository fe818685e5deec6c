"""The outcome of an audit, and its verdict in plain sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bloodcell.runtime.console import counted

#: In the order in which the verdict names them.
_TESTS = ("test", "test_simple")
_NAMES = {"train": "training", "val": "validation", "test": "test", "test_simple": "simple test"}


@dataclass(frozen=True)
class Audit:
    """Where the images of a data set come from.

    Attributes:
        samples: Those that were audited: path, label, split.
        sources: A row for each image, in the order of the samples: path, source (the physical cell), photograph (bare
            name of the original; empty without originals or match), evidence (matched key points, 0 for an image that
            matches nothing), strength (strong, weak or none).
        leaks: Sources in two splits, with an example pair: `audit_tables.LEAK_COLUMNS`.
        conflicts: Sources whose images have different labels: `audit_tables.CONFLICT_COLUMNS`.
        duplicates: Files that exist twice: `audit_tables.DUPLICATE_COLUMNS`.
        unreadable: Path and reason of each file that cannot be read as an image.
        folder: Where its tables and its page are.
    """

    samples: pd.DataFrame
    sources: pd.DataFrame
    leaks: pd.DataFrame
    conflicts: pd.DataFrame
    duplicates: pd.DataFrame
    unreadable: pd.DataFrame
    folder: Path | None = None

    @property
    def report(self) -> Path | None:
        """The page with pictures."""
        return self.folder and self.folder / "report.html"

    @property
    def clean(self) -> bool:
        """Whether no two of the files that can be read show the same cell."""
        readable = self.sources[~self.sources["path"].isin(set(self.unreadable["path"]))]
        return len(readable) > 0 and self.duplicates.empty and not readable["source"].duplicated().any()

    def verdict(self) -> str:
        """Return plain sentences, one a line: the number of cells in each split, leaks, contradicting labels, files."""
        table = self.samples.assign(source=self.sources["source"].to_numpy())
        table["split"] = table["split"].fillna("")
        table = table[~table["path"].isin(set(self.unreadable["path"]))]
        return "\n".join([*_cells(table), *self._leaks(table), *self._conflicts(), *self._files()])

    def _leaks(self, table: pd.DataFrame) -> list[str]:
        """Return a sentence for each pair of splits that share cells."""
        lines = []
        for (first, second), rows in self.leaks.groupby(["split_a", "split_b"], sort=False):
            images = int(((table["split"] == second) & table["source"].isin(set(rows["source"]))).sum())
            cells, names = counted(len(rows), "cell"), (_NAMES[second], _NAMES[first])
            if first in _TESTS:
                lines.append(f"{_phrase(images, names[0] + ' image', 'show')} {cells} of the {names[1]} set too.")
            else:
                have = _phrase(images, names[0] + " image", "have", "has")
                lines.append(f"Leak: {have} {cells} in common with {names[1]}.")
        splits = table["split"][table["split"] != ""].nunique()
        return lines or (["No cell lies on two sides of the split."] if splits > 1 else [])

    def _conflicts(self) -> list[str]:
        if self.conflicts.empty:
            return []
        row, cells = self.conflicts.iloc[0], _phrase(self.conflicts["source"].nunique(), "cell", "carry", "carries")
        return [f"{cells} different labels, {row.source}: {row.label_a} and {row.label_b}."]

    def _files(self) -> list[str]:
        lines = []
        if len(self.duplicates):
            copies = len(self.duplicates) - self.duplicates["group"].nunique()
            lines.append(f"{_phrase(copies, 'file', 'repeat')} the picture of another file.")
        if len(self.unreadable):
            lines.append(f"{counted(len(self.unreadable), 'file')} cannot be read, {self.unreadable['path'].iloc[0]}.")
        alone = int((self.sources["strength"] == "none").sum()) - len(self.unreadable)
        if alone > 0:
            count = "count as cells of their own" if alone > 1 else "counts as a cell of its own"
            lines.append(f"{_phrase(alone, 'image', 'match', 'matches')} nothing and {count}.")
        return lines


def _cells(table: pd.DataFrame) -> list[str]:
    """Return the number of cells in each split, with the class that has the fewest."""
    lines = []
    splits = [split for split in ("train", "val", *_TESTS, "") if (table["split"] == split).any()]
    for split in splits:
        part = table[table["split"] == split]
        cells = part.groupby("label")["source"].nunique().sort_values(kind="stable")
        show = _phrase(len(part), f"{_NAMES[split]} image" if split else "image", "show")
        fewest = f"{cells.iloc[0]} of class {cells.index[0]}"
        lines.append(f"{show} {counted(part['source'].nunique(), 'cell')}; {fewest}.")
    if splits:
        measured = next((split for split in splits if split in _TESTS), splits[0])
        cells = counted(table[table["split"] == measured]["source"].nunique(), "cell")
        lines.append(f"The accuracy rests on {cells}, not on the number of images.")
    return lines


def _phrase(number: int, noun: str, plural: str, singular: str | None = None) -> str:
    """Return a number with its noun and verb: 1 image shows, 2 images show."""
    return f"{counted(number, noun)} {plural if number != 1 else singular or plural + 's'}"
