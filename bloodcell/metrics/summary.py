"""All metrics of a predictions table: the content of metrics.json, and the lines that say it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.metrics.by_source import rows_by_part, sources_known
from bloodcell.metrics.parts import parts_of
from bloodcell.metrics.predictions import classes_of
from bloodcell.metrics.registry import METRICS, Place, f1_by_class, shown_in
from bloodcell.runtime.io import read_json

#: Metrics by name: numbers, or None for the F1 of a class without images.
Values = dict[str, Any]


def metrics_of(predictions: pd.DataFrame, trained_on: frozenset[str] = frozenset()) -> Values:
    """Return `PART/NAME` of every metric of each part of `rows_by_part`.

    A metric with an interval has `PART/NAME_low` and `PART/NAME_high`, if the sources are known. Besides there are
    `PART/images`, `PART/sources` if they are known, `PART/f1_CLASS`, and `PART/without_cell`: the number of images in
    which no cell was found, if cells were looked for.

    A class without images in a part has the F1 None, and the macro F1 is the mean over the other classes.
    """
    classes = classes_of(predictions)
    metrics: Values = {}
    for part, rows in rows_by_part(predictions, trained_on).items():
        metrics |= {f"{part}/{name}": value for name, value in _of_part(rows, classes).items()}
    return metrics


def _of_part(rows: pd.DataFrame, classes: list[str]) -> Values:
    values: Values = {metric.name: metric.value(rows, classes) for metric in METRICS if metric.value}
    values |= {"images": len(rows)}
    values |= {f"f1_{name}": value for name, value in f1_by_class(rows, classes).items()}
    if "cell" in rows and rows["cell"].isin(["found", "none"]).any():
        values["without_cell"] = int((rows["cell"] == "none").sum())
    if not sources_known(rows):
        return values
    parts = parts_of(rows)
    for metric in METRICS:
        if found := metric.estimate(parts):
            values |= {metric.name: found.value, f"{metric.name}_low": found.low, f"{metric.name}_high": found.high}
    return values | {"sources": parts.sources}


def read_metrics(folder: Path) -> Values:
    """Return the content of a folder's metrics.json, finite numbers and None alone; empty if it cannot be read."""
    try:
        found = dict(read_json(folder / "metrics.json"))
    except (OSError, ValueError, TypeError):
        return {}
    return {key: value for key, value in found.items() if value is None or _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < math.inf


def epochs_compared(folder: Path | None) -> int:
    """Return among how many epochs the validation part chose the classifier of a run folder; 1 if that is unknown."""
    found = read_metrics(folder) if folder else {}
    return int(found.get("epochs_compared") or found.get("epochs") or 1)  # older runs have the epochs alone


def parts_in(metrics: Values) -> dict[str, Values]:
    """Return the metrics of each part by their own names, from the content of metrics.json."""
    parts = dict.fromkeys(key.partition("/")[0] for key in metrics if key.endswith("/accuracy"))
    return {
        part: {key.removeprefix(f"{part}/"): value for key, value in metrics.items() if key.startswith(f"{part}/")}
        for part in parts
    }


def lines(metrics: Values, compared: int = 1) -> list[str]:
    """Return a line for each part: its accuracy and the other metrics for the terminal, with the number of sources.

    `compared` is the number of classifiers among which the validation part chose this one.
    """
    parts = parts_in(metrics)
    return [f"{part} {_line(values)}{choice_words(part, compared)}" for part, values in parts.items()] + _cells_line(
        parts
    )


def choice_words(part: str, compared: int) -> str:
    """Return a warning, to be added to a line, if a part chose the classifier that is measured on it; else ''."""
    return "; optimistic: it also chose the epoch" if compared > 1 and part.partition("[")[0] == "val" else ""


def sources_for(values: Values, half_width: float) -> int | None:
    """Return about how many sources of this kind narrow the accuracy's interval to +- `half_width`, above 0.

    An interval is as wide as 1 / sqrt(sources). It is None if sources are unknown.
    """
    if "accuracy_low" not in values:
        return None
    now = float(values["accuracy_high"] - values["accuracy_low"]) / 2
    return math.ceil(float(values["sources"]) * (now / half_width) ** 2)


def _line(values: Values) -> str:
    text = f"accuracy {100 * values['accuracy']:.1f} %"
    shown = [metric for metric in shown_in(Place.TERMINAL) if metric.name in values]
    if "sources" not in values:
        others = [f", {metric.title} {values[metric.name]:.3f}" for metric in shown]
        return f"{text}{''.join(others)}; sources unknown, so no honest interval"
    interval = interval_words(values, "accuracy")
    others = [f", {metric.title} {100 * values[metric.name]:.1f} %" for metric in shown if metric.has_interval]
    return f"{text} (95 % interval {interval}, {values['sources']:.0f} sources){''.join(others)}"


def interval_words(values: Values, name: str) -> str:
    """Return the limits of a metric's interval in percent: "48 to 70"."""
    return f"{100 * values[f'{name}_low']:.0f} to {100 * values[f'{name}_high']:.0f}"


def _cells_line(parts: dict[str, Values]) -> list[str]:
    counted = {part: values for part, values in parts.items() if "without_cell" in values and "_disjoint" not in part}
    if not any(values["without_cell"] for values in counted.values()):
        return []
    images = ", ".join(f"{values['without_cell']:,} of {values['images']:,} {part}" for part, values in counted.items())
    return [f"no cell was found in {images} images, which were taken whole (cell=none in predictions.csv)"]
