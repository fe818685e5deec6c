"""Each laboratory tested by a net that never saw it: the table of a multirun over `data.leave_out`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.intervals import Estimate, mean_estimate
from bloodcell.metrics.parts import by_class_and_source, parts_of
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.runtime.config import read_config
from bloodcell.runtime.io import write_csv

FILE = "leave_one_lab_out.csv"
_KEY = "data.leave_out="


def left_out(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write leave_one_lab_out.csv in a multirun's folder, and return it; without such jobs there is none.

    Args:
        table: The multirun's leaderboard.
        folder: Of the multirun.

    Returns:
        A row for each set that was left out, with the same other choices: choices, set, images, sources (none if they
        are unknown), macro_recall_by_source, low and high (0 to 1; no limits if sources are unknown; then each image
        counts as one), and run.
    """
    done = table[table["status"].isin(["finished", "reused"])]
    found = pd.DataFrame([row for job in done.itertuples() if (row := _row(str(job.overrides), Path(str(job.run))))])
    if len(found):
        found = found.sort_values(["choices", "set"], kind="stable")
        write_csv(found, folder / FILE)
    return found


def _row(overrides: str, run: Path) -> dict[str, Any] | None:
    name = read_config(run / "config.yaml").data.get("leave_out")
    if name is None:
        return None
    predictions = read_predictions(run / "predictions.csv")
    tested = predictions[predictions["split"].str.startswith("test")]
    if tested.empty:
        return None  # with evaluate.test=false
    known = sources_known(tested)
    found = _recall(tested if known else tested.assign(source=[f"{number}" for number in range(len(tested))]))
    return {
        "choices": " ".join(item for item in overrides.split() if not item.startswith((_KEY, "outputs=", "cache."))),
        "set": str(name),
        "images": len(tested),
        "sources": tested["source"].nunique() if known else None,
        "macro_recall_by_source": found.value,
        "low": found.low if known else None,
        "high": found.high if known else None,
        "run": run.as_posix(),
    }


def _recall(rows: pd.DataFrame) -> Estimate:
    parts = parts_of(rows)
    return mean_estimate(parts, *by_class_and_source(parts))


def mean_of(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Return the mean of some sets and the limits of its 95 % interval, nan if those of a set are unknown.

    The limits of independent estimates are combined as in Zou & Donner 2008 (https://doi.org/10.1002/sim.3095).
    """
    values, low, high = (rows[name].to_numpy(float) for name in ("macro_recall_by_source", "low", "high"))
    mean, down, up = values.mean(), np.sqrt(((values - low) ** 2).sum()), np.sqrt(((high - values) ** 2).sum())
    return float(mean), float(mean - down / len(rows)), float(mean + up / len(rows))


def lines(found: pd.DataFrame) -> Iterator[str]:
    """Yield a line for each set, and one for their mean and the worst of them."""
    several = found["choices"].nunique() > 1 if len(found) else False
    for choices, rows in found.groupby("choices", sort=False) if len(found) else ():
        if several:
            yield f"{choices}:"
        for row in rows.itertuples():
            known = f"{row.sources:.0f} sources" if pd.notna(row.sources) else "no interval, as sources are unknown"
            recall = _words(row.macro_recall_by_source, row.low, row.high)
            yield f"{row.set}, never seen: macro recall by source {recall}, {row.images:,} images, {known}"
        if len(rows) > 1:
            worst = rows.loc[rows["macro_recall_by_source"].idxmin()]
            least = f"worst {100 * worst['macro_recall_by_source']:.1f} %, {worst['set']}"
            yield f"mean of {len(rows)} sets {_words(*mean_of(rows))}; {least}"


def _words(value: float, low: float, high: float) -> str:
    limits = f" ({100 * low:.0f} to {100 * high:.0f})" if pd.notna(low) else ""
    return f"{100 * value:.1f} %{limits}"
