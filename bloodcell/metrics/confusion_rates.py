"""Confusions of a classifier with held-out cells, in plain values that a checkpoint can keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bloodcell.metrics.by_source import sources_of
from bloodcell.metrics.intervals import class_sizes, source_correlation
from bloodcell.metrics.parts import Floats, count_parts
from bloodcell.metrics.predictions import classes_of
from bloodcell.runtime.errors import BloodcellError


@dataclass(frozen=True)
class Confusion:
    """How often held-out cells of each of K classes are predicted as each, in plain values.

    Every source counts one under each label that it has, divided among the predictions of its images.
    """

    classes: tuple[str, ...]  # (K,)
    counts: tuple[tuple[float, ...], ...]  # sources by true class, a row, and predicted class, (K, K)
    sources: tuple[float, ...]  # effective number of independent sources of each true class, (K,); see `class_sizes`
    provisional: bool = False  # the sources were unknown: as if each image was of another cell

    @property
    def evidence(self) -> Floats:
        """Independent sources by true class, a row, and predicted class, (K, K).

        A class without sources counts as one source that is predicted right: next to nothing is known of it.
        """
        counts, sources = np.array(self.counts), np.array(self.sources)
        seen = (counts.sum(1) > 0) & (sources > 0)
        rows = np.where(seen[:, None], counts, np.eye(len(counts)))
        return np.asarray(rows / rows.sum(1, keepdims=True) * np.where(seen, sources, 1.0)[:, None])


def confusion_of_table(rows: pd.DataFrame, provisional: bool = False) -> Confusion:
    """Return the confusion of some rows of a predictions table that neither training nor any choice has seen.

    An image of unknown source is its own source; `provisional` says that there are such. Rows with other labels than
    the classes of the model do not count.
    """
    classes = classes_of(rows)
    rows = rows[rows["label"].isin(classes)].sort_values(["label", "prediction"])
    rows = rows.assign(source=sources_of(rows))
    share = 1 / rows.groupby(["label", "source"])["label"].transform("size").astype(float)
    table = share.groupby([rows["label"], rows["prediction"]]).sum().unstack(fill_value=0.0)
    counts = table.reindex(index=classes, columns=classes, fill_value=0.0).to_numpy(float).round(9)
    sizes = dict.fromkeys(classes, 0.0)
    if len(rows):
        parts = count_parts(*(rows[name].tolist() for name in ("label", "prediction", "source")))
        weight = 1 / parts.by_class(np.ones(len(parts.label)))[parts.label]
        effective = class_sizes(parts, weight, source_correlation(parts))
        sizes |= dict(zip(parts.classes, effective.round(9).tolist(), strict=True))
    return Confusion(tuple(classes), tuple(map(tuple, counts.tolist())), tuple(sizes.values()), provisional)


def to_plain(confusion: Confusion) -> dict[str, Any]:
    """Return a confusion as lists for a checkpoint or JSON."""
    counts = [list(row) for row in confusion.counts]
    known = {"classes": list(confusion.classes), "counts": counts, "sources": list(confusion.sources)}
    return {**known, "provisional": confusion.provisional}


def from_plain(plain: Any) -> Confusion:
    """Return the confusion in the plain form of `to_plain`.

    Raises:
        BloodcellError: It is incomplete, or its values do not fit together.
    """
    try:
        classes = tuple(str(name) for name in plain["classes"])
        counts, sources = (np.asarray(plain[name], float) for name in ("counts", "sources"))
        provisional = plain.get("provisional") is True
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BloodcellError("its confusions are not whole; the file is damaged") from error
    count = len(classes)
    fits = 0 < count == len(set(classes)) and counts.shape == (count, count) and sources.shape == (count,)
    if not fits or not all(np.isfinite(one).all() and (one >= 0).all() for one in (counts, sources)):
        raise BloodcellError("its confusions do not fit together; the file is damaged")
    return Confusion(classes, tuple(map(tuple, counts.tolist())), tuple(sources.tolist()), provisional)
