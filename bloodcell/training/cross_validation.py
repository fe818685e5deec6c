"""The end of a cross-validation: one table of out-of-fold predictions, the mean of several, and what they say."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.evaluation.report import Origin, report
from bloodcell.metrics.by_source import estimates_of, sources_known
from bloodcell.metrics.label_errors import suspected_labels
from bloodcell.metrics.predictions import averaged, classes_of, metrics_of, splits_of
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.runtime.io import write_csv

#: Figures by source that are said of a cross-validation -> in which words.
BY_SOURCE = {"accuracy_by_source": "by source", "macro_recall_by_source": "macro recall by source"}

#: What in the name of an out-of-fold file becomes what in that of its suspected labels.
SUSPECTS = ("out_of_fold", "suspected_labels")


def out_of_fold(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write the out-of-fold predictions of each complete cross-validation of a multirun, and their mean.

    Folds belong together where nothing but `data.fold` differs. A cross-validation of which a fold failed is left
    out: it goes on when the command is repeated. Where all of several are of the same images, out_of_fold_mean.csv
    has the mean of their probabilities. Their folds may differ: each member saw nothing of what it predicts.

    Where no source is in two folds, suspected_labels.csv, named in the same way, has the labels that may be wrong.

    Args:
        table: The multirun's leaderboard, with the columns overrides, folds, fold, status and run.
        folder: Where out_of_fold.csv (or out_of_fold_N.csv, for several) and cross_validation.csv go.

    Returns:
        A row per cross-validation, and one of their mean: choices, predictions (its file), members (how many
        cross-validations are averaged in it), suspects (labels that may be wrong, none where folds share sources),
        images, sources, and each figure with its limits.
    """
    found = _complete(table)
    several, parts = len(found) > 1, list(found.values())
    named = [
        (choices, f"_{number}.csv" if several else ".csv", [predictions], predictions)
        for number, (choices, predictions) in enumerate(found.items())
    ]
    if several and _same_images(parts):
        named.append((f"mean of {len(parts)}", "_mean.csv", parts, _mean(parts)))
    summary = []
    for choices, ending, members, predictions in named:
        name = f"out_of_fold{ending}"
        write_csv(predictions, folder / name)
        row = {"choices": choices, "predictions": name, "members": len(members), "suspects": None}
        if all(_apart(member) for member in members):
            suspects = suspected_labels(predictions)
            write_csv(suspects, folder / name.replace(*SUSPECTS))
            row["suspects"] = len(suspects)
        summary.append({**row, **_figures(predictions)})
    result = pd.DataFrame(summary)
    if summary:
        write_csv(result, folder / "cross_validation.csv")
    return result


def _complete(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return choices -> out-of-fold predictions, in the order of the folds, of what has all its folds."""
    done = table[(table["fold"] != "") & table["status"].isin(["finished", "reused"])]
    found = {}
    for choices, rows in done.assign(choices=done["overrides"].map(_without_fold)).groupby("choices", sort=False):
        folds = rows.drop_duplicates("fold").sort_values("fold")
        if len(folds) == int(rows["folds"].iloc[0]):
            parts = [_validation(Path(row.run)).assign(fold=row.fold) for row in folds.itertuples()]
            found[str(choices)] = pd.concat(parts, ignore_index=True)
    return found


def _without_fold(overrides: str) -> str:
    other = ("data.fold=", "outputs=", "cache.", "report=")
    return " ".join(item for item in overrides.split() if not item.startswith(other))


def _validation(run: Path) -> pd.DataFrame:
    table = pd.read_csv(
        run / "predictions.csv",
        dtype=dict.fromkeys(("path", "source", "set", "label", "prediction"), str),
        keep_default_na=False,
    )
    return table[table["split"] == "val"]


def _apart(predictions: pd.DataFrame) -> bool:
    """Say whether every source is known and in one fold alone, so that no net saw another image of it."""
    return sources_known(predictions) and bool((predictions.groupby("source")["fold"].nunique() == 1).all())


def _same_images(tables: list[pd.DataFrame]) -> bool:
    """Say whether tables are of the same images, in any order, with the same labels, sources and classes."""
    first, *others = [table.set_index(_key(table))[["label", "source"]].sort_index() for table in tables]
    classes = [set(classes_of(table)) for table in tables]
    same = all(first.equals(other) for other in others) and all(names == classes[0] for names in classes)
    return same and first.index.is_unique


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean of tables of the same images, in the order of the first."""
    first, *others = tables
    order = first.set_index(_key(first)).index
    return averaged([first, *(table.set_index(_key(table)).loc[order].reset_index() for table in others)])


def _key(table: pd.DataFrame) -> list[str]:
    """Return the columns that name an image: a file may be in two data sets."""
    return [name for name in ("set", "path") if name in table]


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
    """Say what each cross-validation and their mean came to, how far apart they are, and which labels may be wrong."""
    if summary.empty:
        return []
    parts = [name.removeprefix("images") for name in summary.columns if name.startswith("images")]
    rows = summary.to_dict("records")
    said = [_line(row, of) for row in rows for of in parts if pd.notna(row[f"images{of}"])]
    if (summary["members"] > 1).any():
        said += [_spread(summary[summary["members"] == 1], of) for of in parts]
    best = [row for row in rows if row["members"] == summary["members"].max()]  # the mean, where there is one
    return said + [_suspects_line(row) for row in best if row["suspects"] and pd.notna(row["suspects"])]


def _line(row: dict[Hashable, Any], of: str) -> str:
    """Say what a cross-validation came to, of all images or `of` one data set's, as [SET]."""
    mean = f", mean of {row['members']}" if row["members"] > 1 else ""
    text = f"out of fold{of}{mean}: {row[f'images{of}']:,.0f} images, accuracy {100 * row[f'accuracy{of}']:.1f} %"
    for name, words in BY_SOURCE.items():
        if pd.notna(row.get(f"{name}{of}")):
            low, high = 100 * row[f"{name}_low{of}"], 100 * row[f"{name}_high{of}"]
            text += f", {words} {100 * row[f'{name}{of}']:.1f} % ({low:.0f} to {high:.0f})"
    known = f", {row[f'sources{of}']:.0f} sources" if pd.notna(row.get(f"sources{of}")) else "; sources unknown"
    return f"{text}{known}; {row['predictions']}"


def _spread(rows: pd.DataFrame, of: str) -> str:
    """Say the mean and the standard deviation of the figures of several cross-validations of the same images."""
    known = {name: words for name, words in BY_SOURCE.items() if f"{name}{of}" in rows}
    figures = [
        f"{words} {100 * rows[f'{name}{of}'].mean():.1f} % (standard deviation {100 * rows[f'{name}{of}'].std():.1f})"
        for name, words in (known or {"accuracy": "accuracy"}).items()
    ]
    return f"{len(rows)} cross-validations{of}, each on its own, on average: {', '.join(figures)}"


def _suspects_line(row: dict[Hashable, Any]) -> str:
    count, file = row["suspects"], row["predictions"].replace(*SUSPECTS)
    return f"{count:,.0f} {'label' if count == 1 else 'labels'} may be wrong: {file}"


def report_folds(summary: pd.DataFrame, folder: Path, root: Path) -> None:
    """Write a page for each cross-validation of a multirun and for their mean: report.html for out_of_fold.csv.

    Args:
        summary: What `out_of_fold` returns.
        folder: The multirun's, with the files that it wrote.
        root: What the images' paths are relative to.
    """
    rows = summary.to_dict("records")
    shared = {row["predictions"]: _sources_of_several_folds(folder / row["predictions"]) for row in rows}
    for row in rows:
        name = row["predictions"]
        met = frozenset[str]().union(*shared.values()) if row["members"] > 1 else shared[name]
        suspects = _table(folder / name.replace(*SUSPECTS)) if pd.notna(row["suspects"]) else None
        file = folder / name.replace("out_of_fold", "report").replace(".csv", ".html")
        report(read_predictions(folder / name), file, _origin_of_folds(row), met, root, suspects)


def _table(file: Path) -> pd.DataFrame:
    """Return a CSV file's content, in which a class or source may be called NA."""
    return pd.read_csv(file, dtype=dict.fromkeys(("source", "label", "suggested", "path"), str), keep_default_na=False)


def _sources_of_several_folds(file: Path) -> frozenset[str]:
    """Return the sources that were in training and validation of some fold; none of a mean, which has no folds."""
    table = _table(file)
    if "fold" not in table:
        return frozenset()
    folds = table[table["source"] != ""].groupby("source")["fold"].nunique()
    return frozenset(folds.index[folds > 1])


def _origin_of_folds(row: dict[Hashable, Any]) -> Origin:
    """Return how the predictions of a row of `out_of_fold` came about."""
    how = "cross-validation: each image is predicted by the net of a fold in whose training it was not"
    notes = f"{how}, nor any other image of its source" if pd.notna(row["suspects"]) else how
    return Origin(f"{row['predictions']}: {row['choices']}", notes=(notes,))
