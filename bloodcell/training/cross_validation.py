"""Out-of-fold predictions of cross-validations, their mean, metrics and reports."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.evaluation.report import Origin, write_report
from bloodcell.metrics.by_source import sources_known
from bloodcell.metrics.label_errors import suspected_labels
from bloodcell.metrics.predictions import averaged, classes_of
from bloodcell.metrics.predictions_csv import read_predictions, write_predictions
from bloodcell.metrics.registry import Metric, Place, shown_in
from bloodcell.metrics.summary import epochs_compared, interval_words, metrics_of, parts_in
from bloodcell.runtime.io import write_csv

#: out_of_fold_N.csv and suspected_labels_N.csv belong together.
SUSPECTS = ("out_of_fold", "suspected_labels")
_NAMES = dict.fromkeys(("path", "source", "set", "label", "prediction", "suggested"), str)


def out_of_fold(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write the out-of-fold predictions of each complete cross-validation of a multirun, and their mean.

    Writes cross_validation.csv and out_of_fold.csv, or out_of_fold_N.csv for several. Folds belong together if only
    `data.fold` differs. If several have the same images, in whatever folds, out_of_fold_mean.csv has the mean of their
    probabilities. If no source is in two folds, suspected_labels.csv, named alike, has labels that may be wrong.
    `table` is the multirun's leaderboard.

    Returns:
        A row for each cross-validation and their mean: choices, predictions (its file), members (the number of
        cross-validations), suspects (the number of labels that may be wrong, none if folds share sources),
        compared (the number of ways in which validation could choose the epochs of the folds), and the metrics of
        metrics.json; those of a single data set as `NAME[SET]`.
    """
    found = _complete(table)
    several, parts = len(found) > 1, list(found.values())
    named = [
        (choices, f"_{number}.csv" if several else ".csv", [predictions], predictions)
        for number, (choices, predictions) in enumerate(found.items())
    ]
    if several and _same_images(parts):
        named.append((f"mean of {len(parts)}", "_mean.csv", parts, _mean(parts)))
    summary = pd.DataFrame([_written(folder, *one) for one in named])
    if named:
        write_csv(summary, folder / "cross_validation.csv")
    return summary


def _written(
    folder: Path, choices: str, ending: str, members: list[pd.DataFrame], predictions: pd.DataFrame
) -> dict[str, Any]:
    """Write one table and its suspected labels, and return its row of the summary."""
    name = f"out_of_fold{ending}"
    write_predictions(predictions, folder / name)
    count = None
    if all(sources_known(member) and not _sources_of_several_folds(member) for member in members):
        suspects = suspected_labels(predictions)
        write_csv(suspects, folder / name.replace(*SUSPECTS))
        count = len(suspects)
    metrics: dict[str, Any] = {}
    for part, values in parts_in(metrics_of(predictions)).items():
        of = part.removeprefix("val")
        for metric, value in values.items():
            column = f"{metric}{of}"
            while column in metrics:  # the class a[b] of all, and a of the set b
                column += of
            metrics[column] = value
    row = {"choices": choices, "predictions": name, "members": len(members), "suspects": count}
    return {**row, "compared": math.prod(member.attrs["compared"] for member in members), **metrics}


def _complete(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return choices -> out-of-fold predictions of each cross-validation with all its folds."""
    done = table[(table["fold"] != "") & table["status"].isin(["finished", "reused"])]
    found = {}
    for choices, rows in done.assign(choices=done["overrides"].map(_without_fold)).groupby("choices", sort=False):
        folds = rows.drop_duplicates("fold").sort_values("fold")
        if len(folds) == int(rows["folds"].iloc[0]):
            tables = [_read(Path(row.run) / "predictions.csv").assign(fold=row.fold) for row in folds.itertuples()]
            whole = pd.concat(tables, ignore_index=True)
            found[str(choices)] = whole[whole["split"] == "val"].reset_index(drop=True)
            compared = math.prod(epochs_compared(Path(run)) for run in folds["run"])
            found[str(choices)].attrs["compared"] = compared  # of all folds together
    return found


def _without_fold(overrides: str) -> str:
    other = ("data.fold=", "outputs=", "cache.", "report=", "report_title=")
    return " ".join(item for item in overrides.split() if not item.startswith(other))


def _read(file: Path) -> pd.DataFrame:
    """Return a table that this package wrote, in which a class or source may be called NA."""
    return pd.read_csv(file, dtype=_NAMES, keep_default_na=False).copy()  # in one block, for a thousand classes


def _sources_of_several_folds(predictions: pd.DataFrame) -> frozenset[str]:
    """Return the sources of several folds; none for a mean, which has no folds."""
    if "fold" not in predictions:
        return frozenset()
    folds = predictions[predictions["source"] != ""].groupby("source")["fold"].nunique()
    return frozenset(folds.index[folds > 1])


def _same_images(tables: list[pd.DataFrame]) -> bool:
    """Return whether tables have the same images, in any order, with the same labels, sources and classes."""
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
    """Return the columns that identify an image: a file may be in two data sets."""
    return [name for name in ("set", "path") if name in table]


def lines(summary: pd.DataFrame) -> list[str]:
    """Return lines on each cross-validation, their mean, their spread, and labels that may be wrong."""
    if summary.empty:
        return []
    sets = [name.removeprefix("images") for name in summary.columns if name.startswith("images")]
    rows = summary.to_dict("records")
    found = [_line(row, of) for row in rows for of in sets if pd.notna(row[f"images{of}"])]
    if (summary["members"] > 1).any():
        found += [_spread(summary[summary["members"] == 1], of) for of in sets]
    best = [row for row in rows if row["members"] == summary["members"].max()]  # the mean, if there is one
    return found + [_suspects_line(row) for row in best if row["suspects"] and pd.notna(row["suspects"])]


def _compared() -> list[Metric]:
    return [metric for metric in shown_in(Place.COMPARISON) if metric.name != "accuracy"]


def _line(row: dict[Hashable, Any], of: str) -> str:
    """Return the line of a cross-validation, of all images or of one data set, `of` = [SET]."""
    values = {str(name).removesuffix(of): value for name, value in row.items() if str(name).endswith(of)}
    mean = f", mean of {row['members']}" if row["members"] > 1 else ""
    text = f"out of fold{of}{mean}: {values['images']:,.0f} images, accuracy {100 * values['accuracy']:.1f} %"
    for metric in _compared():
        if pd.notna(values.get(metric.name)):
            interval = f" ({interval_words(values, metric.name)})" if pd.notna(values.get(f"{metric.name}_low")) else ""
            text += f", {metric.words} {100 * values[metric.name]:.1f} %{interval}"
    known = f", {values['sources']:.0f} sources" if pd.notna(values.get("sources")) else "; sources unknown"
    choice = "; optimistic: each fold also chose its epoch" if row["compared"] > 1 else ""
    return f"{text}{known}{choice}; {row['predictions']}"


def _spread(rows: pd.DataFrame, of: str) -> str:
    """Return a line on mean and standard deviation over several cross-validations of the same images."""
    known = {f"{metric.name}{of}": metric.words for metric in _compared() if f"{metric.name}{of}" in rows}
    values = [
        f"{words} {100 * rows[name].mean():.1f} % (standard deviation {100 * rows[name].std():.1f})"
        for name, words in (known or {f"accuracy{of}": "accuracy"}).items()
    ]
    return f"{len(rows)} cross-validations{of}, each on its own, on average: {', '.join(values)}"


def _suspects_line(row: dict[Hashable, Any]) -> str:
    count, file = row["suspects"], row["predictions"].replace(*SUSPECTS)
    return f"{count:,.0f} {'label' if count == 1 else 'labels'} may be wrong: {file}"


def write_fold_reports(
    summary: pd.DataFrame, folder: Path, root: Path, heading: str | None = None, data: str = ""
) -> None:
    """Write a report for each row of `out_of_fold`'s summary, e.g. report.html for out_of_fold.csv.

    `root` is the folder of the images; `heading` and `data` are those of `Origin`.
    """
    rows = summary.to_dict("records")
    shared = {row["predictions"]: _sources_of_several_folds(_read(folder / row["predictions"])) for row in rows}
    for row in rows:
        name = row["predictions"]
        trained_on = frozenset[str]().union(*shared.values()) if row["members"] > 1 else shared[name]
        suspects = _read(folder / name.replace(*SUSPECTS)) if pd.notna(row["suspects"]) else None
        file = folder / name.replace("out_of_fold", "report").replace(".csv", ".html")
        write_report(read_predictions(folder / name), file, _origin(row, heading, data), trained_on, root, suspects)


def _origin(row: dict[Hashable, Any], heading: str | None, data: str) -> Origin:
    how = "cross-validation: each image is predicted by the net of a fold that was not trained on it"
    notes = f"{how}, nor on any other image of its source" if pd.notna(row["suspects"]) else how
    made = f"{row['predictions']}: {row['choices']}"
    return Origin(made, notes=(notes,), compared=int(row["compared"]), heading=heading, data=data)
