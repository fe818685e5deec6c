"""What a table of predictions has: images or cells by predicted class, and by folder."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from bloodcell.runtime.console import counted

#: Width of the lines, and the most classes or folders that are listed.
WIDTH, MOST = 80, 12
#: Longest name of a class or folder in a line.
NAME = 36


def count_lines(file: Path, rows: str = "images") -> list[str]:
    """Return lines of at most 80 letters on a CSV file with the columns path, the first, and prediction.

    They have the `rows` of each predicted class and, if there are several folders, of each folder with its most
    frequent classes.
    """
    counts = _counts(file)
    classes, folders = Counter[str](), Counter[str]()
    for (folder, name), number in counts.items():
        classes[name] += number
        folders[folder] += number
    total = classes.total()
    shares = {name: f"{number:>9,} {100 * number / total:5.1f} %" for name, number in classes.most_common()}
    found = _listed("predicted class", f"{rows:>9}   share", shares) if total else []
    if len(folders) > 1:
        of = {folder: Counter({name: counts[folder, name] for name in classes}) for folder in folders}
        texts = {folder: f"{folders[folder]:>9,}  {_most_frequent(of[folder])}" for folder in sorted(folders)}
        found += _listed("folder", f"{rows:>9}  most frequent", texts)
    return found


def _counts(file: Path) -> Counter[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        rows = csv.reader(opened)
        place = next(rows).index("prediction")
        return Counter((row[0].rpartition("/")[0] or ".", row[place]) for row in rows)


def _listed(title: str, head: str, texts: dict[str, str]) -> list[str]:
    """Return a header and a line for each name, up to `MOST`."""
    width = max(len(_short(name)) for name in (title, *texts))
    shown = [f"{_short(name):<{width}} {text}" for name, text in [(title, head), *list(texts.items())[:MOST]]]
    more = [f"and {counted(len(texts) - MOST, 'other')}"] if len(texts) > MOST else []
    return [line[: WIDTH - 1] + "…" if len(line) > WIDTH else line for line in shown] + more


def _short(name: str) -> str:
    """Return a name whose beginning is cut off if it is long: folders differ at their ends."""
    return name if len(name) <= NAME else "…" + name[1 - NAME :]


def _most_frequent(classes: Counter[str]) -> str:
    total = classes.total()
    return ", ".join(f"{name} {100 * number / total:.0f} %" for name, number in classes.most_common(2) if number)
