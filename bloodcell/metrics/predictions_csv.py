"""Predictions tables as CSV: written, and read as any system may have written them, without what misleads metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.data.folder_names import SPLIT_NAMES
from bloodcell.metrics.predictions import FURTHER, PROBABILITY, classes_of, matrix_of, predictions_table
from bloodcell.runtime.console import named
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import read_cells, with_known_columns, write_csv

#: How far from 1 the probabilities of a row may sum, as they may be rounded.
TOLERANCE = 1e-3

#: Columns that are read besides the probabilities.
COLUMNS = ("path", "label", "split", "source", "set", "prediction")

Flags = Iterable[bool]
Words = Callable[[pd.Series], str]


def read_predictions(file: Path) -> pd.DataFrame:
    """Read a predictions table from a CSV file with a row for each image.

    It needs the columns label, and p_CLASS for each class, also for one that never occurs. Without such a column, a
    path is the row's number, a split test, a source unknown and a prediction the most probable class.

    Args:
        file: The file; its rows are counted from 1, the header.

    Returns:
        Columns as `predictions_table` has them; all others are left out.

    Raises:
        BloodcellError: The file cannot be read or is no CSV file, a column is missing, or a row is wrong; the message
            names the row and the column.
    """
    rows = with_known_columns(read_cells(file, "predictions"), COLUMNS, file, PROBABILITY)
    rows = rows.apply(lambda column: column.str.strip())
    _check_columns(rows, file)
    rows = _with_defaults(rows)
    table = rows.assign(**_probabilities(rows, file))
    _check_names(table, file)
    made = predictions_table(table, classes_of(table), matrix_of(table))
    if "prediction" not in table:
        return made
    _check_prediction(table, file)
    return made.assign(prediction=table["prediction"].to_numpy())


def write_predictions(predictions: pd.DataFrame, file: Path) -> None:
    """Write a predictions table as CSV, without optional columns that are empty.

    Its numbers are exact, so that whoever reads it finds the same metrics: a confidence of 0.9999997, rounded to 1,
    would fall into another bin of the calibration error, and share its place in a ROC curve with others.
    """
    empty = [name for name in FURTHER if name in predictions and (predictions[name] == "").all()]
    write_csv(predictions.drop(columns=empty), file, exact=True)


def _check_columns(rows: pd.DataFrame, file: Path) -> None:
    found = " ".join(named(rows.columns).split())  # a name may have line breaks
    if "label" not in rows:
        raise BloodcellError(f"{file} has no column 'label'; it has {found}")
    if not (classes := classes_of(rows)):
        raise BloodcellError(f"{file} has no column {PROBABILITY}CLASS with a class's probabilities; it has {found}")
    if "" in classes:
        raise BloodcellError(f"{file}: the column '{PROBABILITY}' names no class; call it {PROBABILITY}CLASS")
    if rows.empty:
        raise BloodcellError(f"{file} lists no image; it should have a row for each")


def _with_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    paths = rows["path"].str.replace("\\", "/") if "path" in rows else [f"row_{number}" for number in rows.index]
    splits = rows["split"].replace("", "test") if "split" in rows else pd.Series("test", rows.index)
    named = splits.str.lower().map(SPLIT_NAMES).fillna(splits)
    return rows.assign(path=paths, split=named, source=rows.get("source", ""))


def _probabilities(rows: pd.DataFrame, file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of probabilities as numbers, (N,) each."""
    columns = [PROBABILITY + name for name in classes_of(rows)]
    numbers = rows[columns].apply(pd.to_numeric, errors="coerce")
    numbers = rows[columns].where(numbers.notna(), "nan").astype(float)  # to the last bit, as pandas before 3 is not
    odd = ~((numbers >= 0) & (numbers <= 1 + TOLERANCE))
    first = odd.idxmax(axis=1)
    _refuse(
        rows, odd.any(axis=1), file,
        lambda row: f"{first[row.name]} is {row[first[row.name]]!r}; a probability is a number from 0 to 1",
    )  # fmt: skip
    total = numbers.sum(axis=1)
    odd_total = (total - 1).abs() > TOLERANCE
    _refuse(rows, odd_total, file, lambda row: f"its probabilities sum to {total[row.name]:.6g}, not to 1")
    return {column: numbers[column].to_numpy() for column in columns}


def _check_names(table: pd.DataFrame, file: Path) -> None:
    classes = classes_of(table)
    known = named(classes)
    _refuse(table, table["label"] == "", file, lambda _: "no label")
    _refuse(
        table, ~table["label"].isin(classes), file,
        lambda row: f"label {row['label']!r} has no column {PROBABILITY + row['label']!r}; there are {known}",
    )  # fmt: skip
    _refuse(table, table["path"] == "", file, lambda _: "no path")
    splits = sorted(set(SPLIT_NAMES.values()))
    odd = ~table["split"].isin(splits)
    _refuse(table, odd, file, lambda row: f"split is {row['split']!r}; choose from {', '.join(splits)}")
    if "set" in table:
        odd = table["set"].str.contains(r"[/\[\]]") | ((table["set"] == "") & (table["set"] != "").any())
        _refuse(table, odd, file, lambda row: f"set is {row['set']!r}; give a name without / [ ], in every row or none")
    if "cell" in table:
        odd = ~table["cell"].isin(["found", "none", ""])
        _refuse(table, odd, file, lambda row: f"cell is {row['cell']!r}; it is found, none or empty")
    key = [name for name in ("split", "set", "path") if name in table]
    twice = table.duplicated(key)
    _refuse(table, twice, file, lambda row: f"the {row['split']} part has {row['path']!r} twice; list each image once")


def _check_prediction(table: pd.DataFrame, file: Path) -> None:
    classes, probabilities = classes_of(table), matrix_of(table)
    position = pd.Index(classes).get_indexer(table["prediction"])
    known = named(classes)
    _refuse(table, position < 0, file, lambda row: f"prediction {row['prediction']!r} is no class; there are {known}")
    best = pd.Series(np.array(classes)[probabilities.argmax(axis=1)], table.index)
    less = probabilities[np.arange(len(table)), position] < probabilities.max(axis=1)
    _refuse(
        table, less, file,
        lambda row: f"prediction is {row['prediction']!r}, but {best[row.name]!r} is more probable",
    )  # fmt: skip


def _refuse(rows: pd.DataFrame, odd: Flags, file: Path, words: Words) -> None:
    """Raise a BloodcellError about the first odd row, if there is one."""
    if (found := np.flatnonzero(np.asarray(odd))).size:
        raise BloodcellError(f"{file}, row {rows.index[found[0]]}: {words(rows.iloc[found[0]])}")
