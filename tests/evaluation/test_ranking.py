"""Curves are those of scikit-learn, of the classes of which there are some and others."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.evaluation.predictions import predictions_table
from bloodcell.evaluation.ranking import rankings_of


def test_a_perfect_ranking_and_a_reversed_one():
    rows = pd.DataFrame({"path": list("wxyz"), "split": "test", "source": list("1234"), "label": list("aabb")})
    first = np.array([0.1, 0.2, 0.4, 0.5])
    table = predictions_table(rows, ["a", "b", "c"], np.stack([first, 1 - first, 0 * first], axis=1))
    a, b = rankings_of(table, ["a", "b", "c"])
    assert (a.name, a.auc, b.name, b.auc) == ("a", 0.0, "b", 0.0)
    best = rankings_of(table.assign(p_a=1 - table["p_a"]), ["a"])[0]
    assert (best.auc, best.share) == (1.0, 0.5)
    assert best.average_precision == pytest.approx(1.0)
    assert best.roc[0].tolist() == [0, 0]
    assert best.roc[-1].tolist() == [1, 1]
    assert best.precision_recall[0].tolist() == [1, 0.5]
    assert best.precision_recall[-1].tolist() == [0, 1]
