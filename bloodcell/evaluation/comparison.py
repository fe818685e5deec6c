"""One system compared with others on the same images: how far apart they are, and whether that may be chance.

The difference of a metric and its interval are those of `paired`. Besides, a test of the hypothesis that the two
systems are interchangeable: then, in any source, either could have made the predictions of the other. The test swaps
the systems in each source or not, all its images together, and counts how often the metric then differs at least as
much: the sign-flip test of paired data, exact at any number of sources (Ernst 2004, doi:10.1214/088342304000000396).
It tries all swaps if few sources tell the systems apart, else a random sample, in which the actual one is counted
(Phipson & Smyth 2010, doi:10.2202/1544-6115.1585). Nothing is corrected for the number of systems.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.paired import Difference, differences, differences_of, paired_parts, paired_rows
from bloodcell.metrics.parts import Floats, Parts
from bloodcell.metrics.predictions_csv import write_predictions
from bloodcell.metrics.registry import Place, shown_in
from bloodcell.metrics.summary import choice_words, metrics_of
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_csv, write_json

#: Random swaps of all sources, and the number of sources up to which all swaps are tried.
SWAPS, EXACT = 9_999, 13
SEED = 0
_NO_TEST = {"p": None, "only_one": None, "only_other": None}


def write_comparison(
    tables: dict[str, pd.DataFrame], folder: Path, trained_on: frozenset[str], compared: int = 1
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Write predictions_N.csv of each system, metrics.json by system, and comparison.csv of the first with each other.

    The columns of comparison.csv are one (the first system), other, split, figure (the metric), difference (the one
    less the other, -1 to 1), low and high (of the 95 % interval), images, sources, p, and only_one and only_other: the
    number of sources whose images that system alone gets mostly right. What needs sources is empty without them.
    `compared` is the number of ways in which validation parts could choose the epochs of the systems.

    Returns:
        The metrics of each system, and the lines to print.

    Raises:
        BloodcellError: The tables are of different images.
    """
    (first, one), *others = tables.items()
    rows: list[dict[str, Any]] = []
    printed = [f"the first of {len(tables)} is {first}"]
    for name, other in others:
        try:
            pairs = paired_rows(one, other, trained_on)
        except BloodcellError as error:
            raise BloodcellError(f"{first} and {name}: {error}") from error
        for part, pair in pairs.items():
            found, tests = differences_of(*pair), _swap_tests(*pair)
            for metric, gain in found.items():
                values = asdict(gain)
                rows.append(
                    {"one": first, "other": name, "split": part, "figure": metric, "difference": values.pop("value")}
                    | {**values, "sources": gain.sources or None}
                    | tests.get(metric, _NO_TEST)
                )
            printed.append(gain_line(name, part, found) + _test_words(tests) + choice_words(part, compared))
    write_csv(pd.DataFrame(rows), folder / "comparison.csv")
    for number, table in enumerate(tables.values()):
        write_predictions(table, folder / f"predictions_{number}.csv")
    metrics = {name: metrics_of(table, trained_on) for name, table in tables.items()}
    write_json(metrics, folder / "metrics.json")
    return metrics, printed


def _swap_tests(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return by metric p, only_one and only_other, the columns of comparison.csv; empty if sources are unknown."""
    if not sources_known(one):
        return {}
    pair = parts, others = paired_parts(one, other)
    right, right_other = map(_mostly_right, pair)
    only = {"only_one": int((right & ~right_other).sum()), "only_other": int((right_other & ~right).sum())}
    apart = parts.correct - others.correct
    return {
        metric.name: {"p": swap_test(_contributions(parts, apart, *metric.weights(parts))), **only}
        for metric in shown_in(Place.COMPARISON)
        if metric.weights
    }


def _mostly_right(parts: Parts) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return whether most images of each source, (S,), are right."""
    images = np.bincount(parts.source, parts.images)
    return np.asarray(np.bincount(parts.source, parts.images * parts.correct) > images / 2)


def _contributions(parts: Parts, apart: Floats, weight: Floats, share: Floats) -> Floats:
    """Return what each source contributes to a difference, (S,); the arguments are those of `mean_difference`."""
    weight = weight / parts.by_class(weight)[parts.label]
    return np.asarray(np.bincount(parts.source, (share / share.sum())[parts.label] * weight * apart))


def swap_test(shares: Floats) -> float:
    """Return the probability, above 0 to 1, that swaps of interchangeable systems make as large a difference.

    `shares` is what each source contributes to the difference, (S,).
    """
    telling = shares[shares != 0]
    actual = abs(telling.sum()) - 1e-12 * np.abs(telling).sum()  # rounding makes no difference smaller than itself
    if len(telling) <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(telling))[:, None] >> np.arange(len(telling)) & 1)
        return float((np.abs(signs @ telling) >= actual).mean())
    rng, whole = np.random.default_rng(SEED), telling.sum()
    reached = sum(abs(whole - 2 * telling[rng.random(len(telling)) < 0.5].sum()) >= actual for _ in range(SWAPS))
    return float((1 + reached) / (1 + SWAPS))


def _test_words(tests: dict[str, dict[str, Any]]) -> str:
    if not tests:
        return ""
    words = {metric.name: metric.words for metric in shown_in(Place.COMPARISON) if metric.name != "accuracy"}
    p = ", ".join(f"{test['p']:.3g} {words[name]}" for name, test in tests.items() if name in words)
    only = tests["accuracy"]
    return f"; right by this alone {only['only_one']:,}, by the other alone {only['only_other']:,}; p = {p}"


def write_gain(
    predictions: pd.DataFrame, others: dict[str, pd.DataFrame], folder: Path, trained_on: frozenset[str]
) -> list[str]:
    """Write gain.json, by other system, part and metric, and return a line for each system and part.

    `others` has predictions tables of the same images by name; if it is empty, nothing is written.
    """
    gains = {name: differences(predictions, table, trained_on) for name, table in others.items()}
    plain = {
        name: {part: {metric: asdict(one) for metric, one in found.items()} for part, found in parts.items()}
        for name, parts in gains.items()
    }
    if gains:
        write_json(plain, folder / "gain.json")
    return [gain_line(name, part, found) for name, parts in gains.items() for part, found in parts.items()]


def gain_line(name: str, part: str, found: dict[str, Difference]) -> str:
    """Return a line on how much better a system is than another on one part, in percentage points."""
    gains = []
    for metric in shown_in(Place.COMPARISON):
        if one := found.get(metric.name):
            limits = "" if one.low is None or one.high is None else f" ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
            gains.append(f"{metric.words} {100 * one.value:+.1f}{limits}")
    known = found["accuracy"].sources
    ground = f"{known:,} sources" if known else "sources unknown, so no honest interval"
    return f"{part} gain over {name}, in points: {', '.join(gains)}; {ground}"
