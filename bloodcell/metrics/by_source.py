"""Figures with the sources behind them: what is known when images of one source are not independent."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bloodcell.metrics.intervals import (
    Estimate,
    Floats,
    accuracy_by_image,
    accuracy_by_source,
    macro_f1_by_source,
    macro_recall_by_source,
)
from bloodcell.metrics.predictions import splits_of

#: Name -> figure. `accuracy` counts every image one, the others every source.
FIGURES = {
    "accuracy": accuracy_by_image,
    "accuracy_by_source": accuracy_by_source,
    "macro_recall_by_source": macro_recall_by_source,
    "macro_f1_by_source": macro_f1_by_source,
}


def estimates_of(predictions: pd.DataFrame, trained_on: frozenset[str] = frozenset()) -> dict[str, dict[str, Estimate]]:
    """Return the figures of each part of `splits_of` with 95 % intervals; none where its sources are not all known.

    Where test images share sources with training, `SPLIT_disjoint` holds the figures of the others.

    Args:
        predictions: The predictions table.
        trained_on: Sources of the training images.
    """
    parts = with_disjoint(predictions, trained_on)
    return {split: _figures(rows) for split, rows in parts.items() if sources_known(rows)}


def with_disjoint(predictions: pd.DataFrame, trained_on: frozenset[str]) -> dict[str, pd.DataFrame]:
    """Return the rows of each split, and as `SPLIT_disjoint` those of a test part that share no source with training.

    Such a part is only there where the sources are known and some of them, not all, were in training.
    """
    parts: dict[str, pd.DataFrame] = {}
    for split, rows in splits_of(predictions).items():
        parts[split] = rows
        unseen = rows[~rows["source"].isin(trained_on)]
        if split.startswith("test") and sources_known(rows) and 0 < len(unseen) < len(rows):
            parts[f"{split}_disjoint"] = unseen
    return parts


def sources_known(rows: pd.DataFrame) -> bool:
    """Say whether every row of a predictions table has a source."""
    return not (rows["source"].fillna("") == "").any()


def sources_of(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the source of each row of a predictions table; an image of unknown source stands for itself."""
    known = rows["source"].fillna("").astype(str)
    return known.where(known != "", rows["path"].astype(str))


def source_weights(rows: pd.DataFrame) -> Floats:
    """Return the share of the whole that each row is, (N,): every source counts one, and its images alike."""
    sources = sources_of(rows)
    return np.asarray(1 / sources.map(sources.value_counts()) / sources.nunique(), float)


def _figures(rows: pd.DataFrame) -> dict[str, Estimate]:
    columns = [rows[name].astype(str).tolist() for name in ("label", "prediction", "source")]
    return {name: figure(*columns) for name, figure in FIGURES.items()}


def flat(estimates: dict[str, dict[str, Estimate]]) -> dict[str, float]:
    """Return the estimates as `SPLIT/NAME`, `SPLIT/NAME_low`, `SPLIT/NAME_high` and `SPLIT/sources`."""
    values: dict[str, float] = {}
    for split, figures in estimates.items():
        for name, estimate in figures.items():
            values[f"{split}/{name}"] = estimate.value
            values[f"{split}/{name}_low"] = estimate.low
            values[f"{split}/{name}_high"] = estimate.high
        values[f"{split}/sources"] = figures["accuracy"].sources
    return values


def lines(metrics: dict[str, float]) -> list[str]:
    """Say each split's accuracy, with its interval and the sources behind it where they are known."""
    said = []
    for split in dict.fromkeys(key.partition("/")[0] for key in metrics if key.endswith("/accuracy")):
        text = f"{split} accuracy {100 * metrics[f'{split}/accuracy']:.1f} %"
        if f"{split}/sources" in metrics:
            low, high = (100 * metrics[f"{split}/accuracy_{end}"] for end in ("low", "high"))
            text += f" (95 % interval {low:.0f} to {high:.0f}, {metrics[f'{split}/sources']:.0f} sources)"
            text += f", macro recall by source {100 * metrics[f'{split}/macro_recall_by_source']:.1f} %"
        else:
            text += f", macro F1 {metrics[f'{split}/macro_f1']:.3f}; sources unknown, so no honest interval"
        said.append(text)
    return said + _cells_line(metrics)


def _cells_line(metrics: dict[str, float]) -> list[str]:
    """Say in how many images no cell was found; nothing where each has one or none was looked for."""
    counts = {key.partition("/")[0]: count for key, count in metrics.items() if key.endswith("/without_cell")}
    if not any(counts.values()):
        return []
    images = ", ".join(f"{count:,} of {metrics[f'{split}/images']:,} {split}" for split, count in counts.items())
    return [f"no cell was found in {images} images, which were taken whole (cell=none in predictions.csv)"]
