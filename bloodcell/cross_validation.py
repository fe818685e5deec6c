"""The end of a cross-validation: one table of out-of-fold predictions, and what they say."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.evaluation.by_source import estimates_of
from bloodcell.evaluation.predictions import metrics_of, splits_of
from bloodcell.files import write_csv


def out_of_fold(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write the out-of-fold predictions of each complete cross-validation of a multirun.

    Folds belong together where nothing but `data.fold` differs. A cross-validation of which a fold failed is left
    out: it goes on when the command is repeated.

    Args:
        table: The multirun's leaderboard, with the columns overrides, folds, fold, status and run.
        folder: Where out_of_fold.csv (or out_of_fold_N.csv, for several) and cross_validation.csv go.

    Returns:
        A row per cross-validation: overrides, images, sources, and each figure with its limits.
    """
    done = table[(table["fold"] != "") & table["status"].isin(["finished", "reused"])]
    groups = done.assign(choices=done["overrides"].map(_without_fold)).groupby("choices", sort=False)
    complete = [(choices, rows) for choices, rows in groups if rows["fold"].nunique() == int(rows["folds"].iloc[0])]
    summary = []
    for number, (choices, rows) in enumerate(complete):
        name = "out_of_fold.csv" if len(complete) == 1 else f"out_of_fold_{number}.csv"
        ordered = rows.drop_duplicates("fold").sort_values("fold")
        parts = [_validation(Path(row.run)).assign(fold=row.fold) for row in ordered.itertuples()]
        predictions = pd.concat(parts, ignore_index=True)
        write_csv(predictions, folder / name)
        summary.append({"choices": choices, "predictions": name, **_figures(predictions)})
    result = pd.DataFrame(summary)
    if summary:
        write_csv(result, folder / "cross_validation.csv")
    return result


def _without_fold(overrides: str) -> str:
    return " ".join(item for item in overrides.split() if not item.startswith(("data.fold=", "outputs=", "cache.")))


def _validation(run: Path) -> pd.DataFrame:
    table = pd.read_csv(
        run / "predictions.csv",
        dtype=dict.fromkeys(("source", "set", "label", "prediction"), str),
        keep_default_na=False,
    )
    return table[table["split"] == "val"]


def _figures(predictions: pd.DataFrame) -> dict[str, float]:
    """Return images, accuracy, and the figures by source with their limits where sources are known.

    Where several data sets validate, those of each follow, as `NAME[SET]`.
    """
    metrics, estimates = metrics_of(predictions), estimates_of(predictions)
    figures: dict[str, float] = {}
    for part in splits_of(predictions):
        of = part.removeprefix("val")  # nothing, or [SET]
        figures |= {f"images{of}": metrics[f"{part}/images"], f"accuracy{of}": metrics[f"{part}/accuracy"]}
        for name, estimate in estimates.get(part, {}).items():
            figures |= {f"{name}{of}": estimate.value, f"{name}_low{of}": estimate.low}
            figures |= {f"{name}_high{of}": estimate.high, f"sources{of}": estimate.sources}
        figures[f"macro_f1{of}"] = metrics[f"{part}/macro_f1"]
    return figures


def lines(summary: pd.DataFrame) -> list[str]:
    """Say what each cross-validation came to."""
    parts = [name.removeprefix("images") for name in summary.columns if name.startswith("images")]
    rows = summary.to_dict("records")
    return [_line(row, of) for row in rows for of in parts if pd.notna(row[f"images{of}"])]


def _line(row: dict[Hashable, Any], of: str) -> str:
    """Say what a cross-validation came to, of all images or `of` one data set's, as [SET]."""
    text = f"out of fold{of}: {row[f'images{of}']:,.0f} images, accuracy {100 * row[f'accuracy{of}']:.1f} %"
    for name, words in (("accuracy_by_source", "by source"), ("macro_recall_by_source", "macro recall by source")):
        if pd.notna(row.get(f"{name}{of}")):
            low, high = 100 * row[f"{name}_low{of}"], 100 * row[f"{name}_high{of}"]
            text += f", {words} {100 * row[f'{name}{of}']:.1f} % ({low:.0f} to {high:.0f})"
    known = f", {row[f'sources{of}']:.0f} sources" if pd.notna(row.get(f"sources{of}")) else "; sources unknown"
    return f"{text}{known}; {row['predictions']}"
