"""The predictions table: the output of every model, a row for each image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

#: Prefix of the columns that hold the probability of each class.
PROBABILITY = "p_"
#: Optional columns. set: name of the data set, '' if there is only one. cell: found or none if the preprocessing looks
#: for the cell (none: the whole image was taken), '' if it does not.
FURTHER = ("set", "cell")
#: What scikit-learn calls the scores of a class, in its order.
SCORES = ("precision", "recall", "f1-score", "support")


def predictions_table(
    samples: pd.DataFrame, classes: list[str], probabilities: np.ndarray[Any, np.dtype[np.float64]]
) -> pd.DataFrame:
    """Return the samples with their predictions.

    Args:
        samples: Columns path, split, source and label, and those of `FURTHER` that exist; N rows.
        classes: Class names in the order of the probabilities.
        probabilities: (N, classes), each row summing to 1.

    Returns:
        Columns path, split, source, label, prediction, the further ones, and p_NAME for each class.
    """
    table = samples[["path", "split", "source", "label"]].reset_index(drop=True)
    further = samples[[name for name in FURTHER if name in samples]].reset_index(drop=True)
    names = np.array(classes, dtype=object)
    best = names[probabilities.argmax(axis=1)] if len(table) else []
    columns = pd.DataFrame(probabilities.reshape(len(table), len(classes)), columns=[PROBABILITY + c for c in classes])
    return pd.concat([table.assign(prediction=best), further, columns], axis=1)


def averaged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the table of the mean probabilities of several tables of the same rows.

    Args:
        tables: At least one, all with the same classes; the result has them in the order of the first. Its cells are
            those of the first table whose preprocessing looked for them: all that do find the same.
    """
    if len(tables) == 1:
        return tables[0]
    classes = classes_of(tables[0])
    names = [PROBABILITY + name for name in classes]
    looked = next((table for table in tables if "cell" in table and (table["cell"] != "").any()), tables[0])
    rows = tables[0].assign(cell=looked["cell"]) if "cell" in looked else tables[0]
    return predictions_table(rows, classes, np.mean([table[names].to_numpy() for table in tables], axis=0))


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Return the class names, in the order of the probability columns."""
    return [name.removeprefix(PROBABILITY) for name in predictions.columns if name.startswith(PROBABILITY)]


def matrix_of(predictions: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the probabilities, (N, classes), in the order of `classes_of`."""
    return np.asarray(predictions[[PROBABILITY + name for name in classes_of(predictions)]], float)


def splits_of(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each split, in the order in which the splits appear.

    If a split has rows of several data sets, `SPLIT[SET]` follows with those of each.
    """
    parts = {}
    for split, rows in predictions.groupby("split", sort=False):
        parts[str(split)] = rows
        if "set" in rows and rows["set"].nunique() > 1:
            parts |= {f"{split}[{name}]": part for name, part in rows.groupby("set", sort=False)}
    return parts


def probability_of(predictions: pd.DataFrame, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the probability, (N,), that each row gives to the class which its `label` or `prediction` names."""
    chosen = pd.Index(classes_of(predictions)).get_indexer(predictions[column])
    return np.asarray(matrix_of(predictions)[np.arange(len(predictions)), chosen])


def confusion_of(rows: pd.DataFrame, classes: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return counts (classes, classes): rows are true classes, columns predicted ones; others are not counted."""
    counts = pd.crosstab(rows["label"], rows["prediction"])
    return np.asarray(counts.reindex(index=classes, columns=classes, fill_value=0), np.int64)


def scores_of(rows: pd.DataFrame, classes: list[str]) -> dict[str, dict[str, float | None]]:
    """Return scikit-learn's precision, recall, f1-score and support of each class; None for one without images."""
    labels = {"labels": classes, "zero_division": 0.0}
    columns = precision_recall_fscore_support(rows["label"], rows["prediction"], **labels)
    found = {
        name: dict(zip(SCORES, map(float, one), strict=True)) for name, *one in zip(classes, *columns, strict=True)
    }
    return {
        name: {key: value if one["support"] or key == "support" else None for key, value in one.items()}
        for name, one in found.items()
    }


def report_of(rows: pd.DataFrame, classes: list[str], as_dict: bool = False) -> Any:
    """Return the classification report of one split as scikit-learn has it, as text or as a dictionary.

    The means are over the classes with images; the others have no scores: `-`, or None. A class that is called as a key
    beside the classes (accuracy, macro avg, weighted avg) has the key `class NAME`.
    """
    scores, accuracy = scores_of(rows, classes), float((rows["label"] == rows["prediction"]).mean())
    known = np.array([list(one.values()) for one in scores.values() if one["support"]], float)
    means = {
        name: dict(zip(SCORES, [*np.average(known[:, :3], 0, weights).tolist(), float(len(rows))], strict=True))
        for name, weights in (("macro avg", None), ("weighted avg", known[:, 3]))
    }
    if not as_dict:
        return _report_text(scores, accuracy, means)
    summary = {"accuracy": accuracy, **means}
    return {_free_key(name, classes, summary): one for name, one in scores.items()} | summary


def _free_key(name: str, classes: list[str], taken: dict[str, Any]) -> str:
    key = name
    while key in taken or (key != name and key in classes):
        key = f"class {key}"
    return key


def _report_text(scores: dict[str, Any], accuracy: float, means: dict[str, Any]) -> str:
    width = max(map(len, ["weighted avg", *scores]))

    def line(name: str, one: dict[str, Any]) -> str:
        texts = ["-" if value is None else f"{value:.3f}" for value in list(one.values())[:3]]
        return f"{name:>{width}} {''.join(f'{text:>11}' for text in texts)}{one['support']:>11.0f}\n"

    head = f"{'':>{width}} {''.join(f'{key:>11}' for key in SCORES)}\n\n"
    total = f"\n{'accuracy':>{width}} {accuracy:>33.3f}{means['macro avg']['support']:>11.0f}\n"
    return head + "".join(line(*one) for one in scores.items()) + total + "".join(line(*one) for one in means.items())
