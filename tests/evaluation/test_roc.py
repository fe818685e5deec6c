"""Curves are those of scikit-learn, of the classes of which there are some and others."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from bloodcell.metrics.by_class import scores_by_class
from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.roc import bands_of, rankings_of
from tests.evaluation.grouped import CLASSES, simulated


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


@pytest.mark.parametrize("digits", [16, 1])  # without ties, and with many
def test_areas_are_those_of_scikit_learn_and_torchmetrics_and_of_the_curves(digits):
    generator = np.random.default_rng(0)
    label = np.array(list("abc"))[generator.integers(0, 3, 600)]
    probability = (generator.dirichlet(np.ones(3), 600) + 0.7 * (label[:, None] == np.array(list("abc")))) / 1.7
    rows = pd.DataFrame({"path": np.arange(600).astype(str), "split": "test", "source": "s", "label": label})
    table = predictions_table(rows, ["a", "b", "c"], probability.round(digits))
    found = rankings_of(table, ["a", "b", "c"])
    assert [one.name for one in found] == ["a", "b", "c"]
    for one in found:
        true, sure = (label == one.name).astype(int), table[f"p_{one.name}"].to_numpy(copy=True)
        assert one.auc == pytest.approx(roc_auc_score(true, sure), abs=1e-9)
        assert one.average_precision == pytest.approx(average_precision_score(true, sure), abs=1e-9)
        assert one.auc == pytest.approx(auc(*one.roc.T), abs=1e-9)
        recall, precision = one.precision_recall.T
        assert one.average_precision == pytest.approx(-np.diff(recall) @ precision[:-1], abs=1e-9)
        # torchmetrics counts in float32
        tensors = torch.from_numpy(sure), torch.from_numpy(true)
        assert one.auc == pytest.approx(float(binary_auroc(*tensors)), abs=1e-6)
        assert one.average_precision == pytest.approx(float(binary_average_precision(*tensors)), abs=1e-6)


def test_the_bands_are_the_intervals_of_recall_and_precision_at_each_threshold():
    rows = simulated(np.random.default_rng(0), 60)
    for ranking in rankings_of(rows, list(CLASSES)):
        bands = bands_of(rows, ranking.name)
        threshold = rows.loc[rows["label"] == ranking.name, f"p_{ranking.name}"].min()  # of an image of the class
        called = rows.assign(prediction=np.where(rows[f"p_{ranking.name}"] >= threshold, ranking.name, "other"))
        (scores,) = scores_by_class(called, [ranking.name])
        place = np.argmin(abs(bands.roc[:, 0] - (1 - scores.specificity.value)))
        assert bands.roc[place] == pytest.approx([1 - scores.specificity.value, *scores.recall.limits])
        assert bands.precision_recall[place, 1:] == pytest.approx(scores.precision.limits)
        assert bands.roc[0, 0] == 1  # everything is called so
        # the curve passes through its band
        for place, low, high in bands.roc:
            before, after = (ranking.roc[ranking.roc[:, 0] < place, 1], ranking.roc[ranking.roc[:, 0] > place, 1])
            assert low <= after.min(initial=1)
            assert high >= before.max(initial=0)
            assert 0 <= low < high <= 1
        assert (bands.roc[:, 2] - bands.roc[:, 1]).min() > 0.01


def test_without_sources_there_are_no_bands():
    assert bands_of(simulated(np.random.default_rng(0), 20).assign(source=""), "a") is None
