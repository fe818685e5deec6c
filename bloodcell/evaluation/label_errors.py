"""Which labels may be wrong: those that nets contradict which saw nothing of the source in training.

Confident learning (Northcutt, Jiang & Chuang 2021, https://doi.org/10.1613/jair.1.12125) by cleanlab: it estimates how
many labels of each class are another class's in truth, and suspects so many, those that are contradicted most. Copies
of a source are contradicted together, so a source has one vote, the mean of what is said of its images.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bloodcell.evaluation.by_source import sources_of
from bloodcell.evaluation.predictions import PROBABILITY, classes_of, matrix_of

COLUMNS = ["source", "label", "suggested", "quality", "images", "path"]


def suspected_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the labels that may be wrong, the worst first.

    Args:
        rows: Rows of a predictions table, each by a net that was trained on no image of its source, as those of
            out_of_fold.csv are. An image of unknown source stands for itself. A source of several labels has a vote
            under each.

    Returns:
        Columns source, label, suggested (the most probable class), quality (mean probability of the label, 0 to 1),
        images (of the source under the label) and path (of the image that contradicts the label most).
    """
    from cleanlab.filter import find_label_issues  # takes seconds to import

    votes = _votes(rows)
    classes = classes_of(rows)
    labels = pd.Index(classes).get_indexer(votes["label"])
    if len(np.unique(labels)) < 2:  # one class contradicts nothing
        return votes[COLUMNS][:0]
    worst = find_label_issues(labels, matrix_of(votes), return_indices_ranked_by="self_confidence", n_jobs=1)
    return votes[COLUMNS].iloc[worst].reset_index(drop=True)


def _votes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each source under each of its labels: the columns of the result, and mean p_CLASS."""
    truth = pd.Index(classes_of(rows)).get_indexer(rows["label"])
    quality = matrix_of(rows)[np.arange(len(rows)), truth]
    images = rows.assign(source=sources_of(rows), quality=quality).sort_values("quality", kind="stable")
    found = images.groupby(["source", "label"], sort=True)
    means = found[["quality", *(PROBABILITY + name for name in classes_of(rows))]].mean()
    votes = means.assign(images=found.size(), path=found["path"].first()).reset_index()
    return votes.assign(suggested=np.array(classes_of(rows), dtype=object)[matrix_of(votes).argmax(axis=1)])
