"""One system against others on the same images: how far apart they are, and whether that may be chance.

The difference of a figure and its interval are those of `paired`. Beside it stands a test of the hypothesis that the
two systems are interchangeable: then, in any source, either could have made the predictions of the other. So the test
swaps the systems in each source or not, all its images together, and asks how often the figure then differs as much as
it does: the sign-flip test of paired data, exact at any number of sources (Ernst 2004,
doi:10.1214/088342304000000396). All swaps are tried where few sources tell the systems apart, else so many at random,
by seed, and the actual one is counted as one of them (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585). Nothing is
corrected for how many systems are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.evaluation.outputs import figures_of
from bloodcell.metrics.by_source import sources_known, with_disjoint
from bloodcell.metrics.intervals import Floats, Parts
from bloodcell.metrics.paired import FIGURES, Difference, beside, differences, differences_of, parts_beside
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv, write_json

#: Random swaps of all sources; so many sources are swapped in every way.
SWAPS, EXACT = 9_999, 13
SEED = 0


def write_comparison(tables: dict[str, pd.DataFrame], folder: Path, trained_on: frozenset[str]) -> list[str]:
    """Write comparison.csv, a row for each other system, split and figure, and return a line for each system and split.

    Its columns are one (the first system), other, split, figure, difference (the one less the other, -1 to 1), low and
    high (of the 95 % interval), p, images, sources, and only_one and only_other: the sources of which most images are
    right by that system alone. Where sources are unknown, those that rest on them are empty.

    Args:
        tables: Name -> predictions table of each system, of the same images; the first is compared with all others.
        folder: An existing folder.
        trained_on: Sources of the training images of any of them.

    Raises:
        BloodcellError: The tables are of different images.
    """
    (first, one), *others = tables.items()
    rows: list[dict[str, Any]] = []
    said = []
    for name, other in others:
        for split, part in with_disjoint(_beside(one, other, f"{first} and {name}"), trained_on).items():
            differences, further = differences_of(part), _further(part)
            rows += [
                {"one": first, "other": name, "split": split, "figure": figure, **_plain(found), **further[figure]}
                for figure, found in differences.items()
            ]
            said.append(line(name, split, differences) + _words(further))
    write_csv(pd.DataFrame(rows), folder / "comparison.csv")
    return said


def _beside(one: pd.DataFrame, other: pd.DataFrame, names: str) -> pd.DataFrame:
    try:
        return beside(one, other)
    except BloodcellError as error:
        raise BloodcellError(f"{names}: {error}") from error


def _plain(found: Difference) -> dict[str, Any]:
    return {
        "difference": found.value, "low": found.low, "high": found.high,
        "images": found.images, "sources": found.sources or None,
    }  # fmt: skip


def _further(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return by figure what tells more of the rows of one split: p, only_one and only_other."""
    if not sources_known(rows):
        return {"accuracy": {"p": None, "only_one": None, "only_other": None}}
    one, other = parts_beside(rows)
    right = [_right(parts) for parts in (one, other)]
    only = {"only_one": int((right[0] & ~right[1]).sum()), "only_other": int((right[1] & ~right[0]).sum())}
    apart = one.correct - other.correct
    return {name: {"p": swap_test(_shares(one, apart, *weigh(one))), **only} for name, weigh in FIGURES.items()}


def _right(parts: Parts) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say of each source, (S,), whether most of its images are right."""
    images = np.bincount(parts.source, parts.images)
    return np.asarray(np.bincount(parts.source, parts.images * parts.correct) > images / 2)


def _shares(parts: Parts, apart: Floats, weight: Floats, share: Floats) -> Floats:
    """Return how much of a difference each source makes, (S,); the arguments are those of `mean_difference`."""
    weight = weight / parts.by_class(weight)[parts.label]
    return np.asarray(np.bincount(parts.source, (share / share.sum())[parts.label] * weight * apart))


def swap_test(shares: Floats) -> float:
    """Return the probability, above 0 to 1, that swaps of interchangeable systems make as large a difference.

    Args:
        shares: What each source contributes to the difference, (S,).
    """
    telling = shares[shares != 0]
    actual = abs(telling.sum()) - 1e-12 * np.abs(telling).sum()  # rounding makes no difference smaller than itself
    if len(telling) <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(telling))[:, None] >> np.arange(len(telling)) & 1)
        return float((np.abs(signs @ telling) >= actual).mean())
    rng, whole = np.random.default_rng(SEED), telling.sum()
    reached = sum(abs(whole - 2 * telling[rng.random(len(telling)) < 0.5].sum()) >= actual for _ in range(SWAPS))
    return float((1 + reached) / (1 + SWAPS))


def _words(further: dict[str, dict[str, Any]]) -> str:
    """Say how many sources one system alone has right, and the tests by source; nothing where sources are unknown."""
    if "accuracy_by_source" not in further:
        return ""
    found = further["accuracy_by_source"]
    tests = ", ".join(f"{values['p']:.3g} {WORDS[name]}" for name, values in further.items() if name != "accuracy")
    return f"; right by this alone {found['only_one']:,}, by the other alone {found['only_other']:,}; p = {tests}"


#: Figure -> in which words it is said.
WORDS = {
    "accuracy": "accuracy",
    "accuracy_by_source": "by source",
    "macro_recall_by_source": "macro recall by source",
}


def write_gain(
    predictions: pd.DataFrame, others: dict[str, pd.DataFrame], folder: Path, trained_on: frozenset[str]
) -> list[str]:
    """Write gain.json, by other system, split and figure, and return a line for each system and split.

    Args:
        predictions: The predictions table of the system that was evaluated.
        others: Name -> predictions table of another one, of the same images; none: nothing is written.
        folder: An existing folder.
        trained_on: Sources of the training images.
    """
    gains = {name: differences(predictions, table, trained_on) for name, table in others.items()}
    if gains:
        write_json({name: _plain_gains(splits) for name, splits in gains.items()}, folder / "gain.json")
    return [line(name, split, figures) for name, splits in gains.items() for split, figures in splits.items()]


def _plain_gains(splits: dict[str, dict[str, Difference]]) -> dict[str, Any]:
    return {split: {name: asdict(found) for name, found in figures.items()} for split, figures in splits.items()}


def line(name: str, split: str, figures: dict[str, Difference]) -> str:
    """Say how much better the evaluated system is than another on one split, in percentage points."""
    said = []
    for figure, found in figures.items():
        text = f"{WORDS[figure]} {100 * found.value:+.1f}"
        said.append(text if found.low is None or found.high is None else text + _limits(found.low, found.high))
    known = figures["accuracy"].sources
    ground = f"{known:,} sources" if known else "sources unknown, so no honest interval"
    return f"{split} gain over {name}, in points: {', '.join(said)}; {ground}"


def _limits(low: float, high: float) -> str:
    return f" ({100 * low:+.1f} to {100 * high:+.1f})"


def compare(tables: Mapping[Path, pd.DataFrame], folder: Path, trained_on: frozenset[str]) -> dict[str, Any]:
    """Write each system's predictions and figures, and the comparison of the first with each of the others, and say it.

    Args:
        tables: Checkpoint or file -> its predictions table, two or more.
        folder: Where it goes.
        trained_on: Sources of the training images of any of them.

    Returns:
        The content of metrics.json: checkpoint or file -> its figures.

    Raises:
        BloodcellError: The tables are of different images.
    """
    named = {str(path): table for path, table in tables.items()}
    said = write_comparison(named, folder, trained_on)
    for number, table in enumerate(named.values()):
        write_csv(table, folder / f"predictions_{number}.csv")
    metrics = {name: figures_of(table, trained_on) for name, table in named.items()}
    write_json(metrics, folder / "metrics.json")
    say(f"the first of {len(named)} is {next(iter(named))}")
    for line in said:
        say(line)
    return metrics
