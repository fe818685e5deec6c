"""Labels that may be wrong: nets that were trained without the source contradict them.

Copies of a source are predicted alike, so a source has one vote: the mean prediction of its images. Labels are ranked
by the probability that the vote gives them. Confident learning (Northcutt, Jiang & Chuang 2021,
https://doi.org/10.1613/jair.1.12125) estimates for each class how many of the worst are suspected: it counts a vote
for another class only if it is as confident as votes for that class usually are. That number is rough: good nets leave
some wrong labels unsuspected, which come next in the ranking, and poor nets suspect many that are right.

Share of planted errors that is found: ``python tests/benchmarks/label_errors.py``.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_of
from bloodcell.metrics.predictions import PROBABILITY, classes_of, matrix_of, probability_of

COLUMNS = ["source", "label", "suggested", "quality", "images", "path"]


def label_quality(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how well the predictions support the label of every source, the worst first.

    Args:
        rows: Rows of a predictions table, each by a net that was trained without its source, as in out_of_fold.csv. An
            image of unknown source is its own source. A source with several labels has a vote under each.

    Returns:
        Columns source, label, suggested (the most probable class, which may be the label), quality (mean probability
        of the label, 0 to 1), images (of the source under the label) and path (of the image that contradicts the label
        most).
    """
    return _votes(rows)[COLUMNS]


def suspected_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `label_quality` whose label may be wrong, the worst first.

    If all labels are one class, none is suspected; nor is the only source of a class.
    """
    from cleanlab.filter import find_label_issues  # takes seconds to import

    votes = _votes(rows)
    labels = pd.Index(classes_of(rows)).get_indexer(votes["label"])
    if len(np.unique(labels)) < 2:
        return votes[COLUMNS][:0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag", UserWarning)  # for classes that have one source or none
        suspected = find_label_issues(labels, matrix_of(votes), filter_by="prune_by_class", n_jobs=1)
    return votes[COLUMNS][suspected & (votes["suggested"] != votes["label"])].reset_index(drop=True)


def _votes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each source under each of its labels, the worst first: `COLUMNS`, and mean p_CLASS."""
    images = rows.assign(source=sources_of(rows), quality=probability_of(rows, "label"))
    found = images.sort_values(["quality", "path"], kind="stable").groupby(["source", "label"])
    means = found[["quality", *(PROBABILITY + name for name in classes_of(rows))]].mean()
    votes = means.assign(images=found.size(), path=found["path"].first()).reset_index()
    best = np.array(classes_of(rows), dtype=object)[matrix_of(votes).argmax(axis=1)]
    return votes.assign(suggested=best).sort_values("quality", kind="stable", ignore_index=True)
