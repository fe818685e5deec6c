"""Scores of a class are scikit-learn's; their intervals rest on the sources."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
    multiclass_specificity,
)

from bloodcell.metrics.by_class import faultless_sources, scores_by_class, sources_needed
from bloodcell.metrics.by_source import groups_of
from bloodcell.metrics.predictions import predictions_table

CLASSES = ["a", "b", "c"]


def table(sources=20, copies=5, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([CLASSES[i % 3] for i in range(sources)], copies)
    rows = pd.DataFrame({"path": "", "split": "test", "source": np.repeat([f"s{i}" for i in range(sources)], copies)})
    rows = rows.assign(label=labels, path=[f"{i}.png" for i in range(len(rows))])
    right = np.array([CLASSES.index(name) for name in labels])
    return predictions_table(rows, CLASSES, 0.4 * np.eye(3)[right] + 0.6 * generator.dirichlet(np.ones(3), len(rows)))


def test_values_are_scikit_learns_and_lie_in_their_intervals():
    rows = table()
    expected = np.array(precision_recall_fscore_support(rows["label"], rows["prediction"], labels=CLASSES)[:3])
    for place, found in enumerate(scores_by_class(rows, CLASSES)):
        assert found.name == CLASSES[place]
        assert (found.images, found.sources) == ((rows["label"] == found.name).sum(), [7, 7, 6][place])
        for score, value in zip((found.precision, found.recall, found.f1), expected[:, place], strict=True):
            assert score.value == pytest.approx(value, abs=1e-9)
            assert score.interval.value == pytest.approx(value, abs=1e-9)
            assert score.interval.low < value < score.interval.high


def test_values_are_torchmetrics():
    rows = table()
    label, prediction = (torch.tensor(pd.Index(CLASSES).get_indexer(rows[name])) for name in ("label", "prediction"))
    matrix = multiclass_confusion_matrix(prediction, label, 3).double()
    right, called, there = matrix.diag(), matrix.sum(0), matrix.sum(1)
    single = {"num_classes": 3, "average": "none"}
    recall, precision, f1 = (
        score(prediction, label, **single) for score in (multiclass_recall, multiclass_precision, multiclass_f1_score)
    )
    for place, found in enumerate(scores_by_class(rows, CLASSES)):
        # torchmetrics divides in float32: its counts are compared exactly, its scores as far as they go
        assert found.recall.value == pytest.approx(float(right[place] / there[place]), abs=1e-9)
        assert found.precision.value == pytest.approx(float(right[place] / called[place]), abs=1e-9)
        assert found.f1.value == pytest.approx(float(2 * right[place] / (there + called)[place]), abs=1e-9)
        specificity = multiclass_specificity(prediction, label, **single)[place]
        assert found.specificity.value == pytest.approx(float(specificity), abs=1e-6)
        assert found.specificity.interval.low < found.specificity.value < found.specificity.interval.high
        scores = [float(one[place]) for one in (recall, precision, f1)]
        assert [found.recall.value, found.precision.value, found.f1.value] == pytest.approx(scores, abs=1e-6)


def test_copies_of_the_same_sources_do_not_narrow_an_interval():
    few = table(copies=1)
    many = pd.concat([few] * 30, ignore_index=True)
    for one, other in zip(scores_by_class(few, CLASSES), scores_by_class(many, CLASSES), strict=True):
        for name in ("recall", "precision", "f1"):
            narrow, wide = (getattr(found, name).interval for found in (other, one))
            assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low, rel=0.05)


def test_without_sources_there_is_no_interval():
    found = scores_by_class(table().assign(source=""), CLASSES)
    assert all(score.interval is None for one in found for score in (one.recall, one.precision, one.f1))
    assert all(one.sources is None for one in found)


def test_a_class_that_is_neither_there_nor_called_has_no_scores():
    rows = table()
    rows = rows[(rows["label"] != "c") & (rows["prediction"] != "c")]
    found = scores_by_class(rows, CLASSES)[2]
    assert (found.images, found.sources) == (0, 0)
    assert (found.recall.value, found.precision.value, found.f1.value) == (None, None, None)


def test_a_class_without_images_has_no_scores_though_it_is_called():
    rows = table()
    rows = rows[rows["label"] != "c"].assign(prediction="c")
    found = scores_by_class(rows, CLASSES)[2]
    assert [(one.value, one.interval) for one in (found.recall, found.precision, found.f1)] == [(None, None)] * 3


def test_a_class_that_is_never_called_has_recall_0_and_no_precision():
    rows = table()
    rows = rows.assign(prediction=rows["prediction"].replace("c", "a"))
    found = scores_by_class(rows, CLASSES)[2]
    assert (found.recall.value, found.precision.value, found.f1.value) == (0, None, 0)
    assert found.recall.interval.low == 0 < found.recall.interval.high


def alone(sources, wrong, copies=1):
    """Return rows of two classes of so many sources each, of which so many sources of a are wrong."""
    label = np.repeat(["a", "b"], sources * copies)
    prediction = np.where(np.arange(2 * sources * copies) < wrong * copies, "b", label)
    source = [f"s{number // copies}" for number in range(2 * sources * copies)]
    rows = pd.DataFrame({"path": "", "split": "test", "source": source, "label": label, "prediction": prediction})
    return rows.assign(p_a=1.0 * (prediction == "a"), p_b=1.0 * (prediction == "b"))


@pytest.mark.parametrize(("sources", "wrong"), [(20, 0), (40, 1), (50, 2)])
def test_as_many_sources_as_are_said_to_be_needed_make_a_class_reliable(sources, wrong):
    (few, _) = scores_by_class(alone(sources, wrong, copies=3), ["a", "b"])
    needed = sources_needed(few, 0.9)
    assert min(few.recall.limits[0], few.precision.limits[0]) < 0.9
    factor = int(np.ceil(needed / sources))
    for times, reliable in ((factor, True), (factor - 1, False)):
        rows = alone(sources * times, wrong * times, copies=3)
        (many, _) = scores_by_class(rows, ["a", "b"])
        assert (many.recall.limits[0] >= 0.895) == reliable


def test_no_number_of_sources_makes_a_poor_class_reliable():
    (poor, other) = scores_by_class(alone(20, 4), ["a", "b"])
    assert sources_needed(poor, 0.9) == sources_needed(other, 0.9) == np.inf  # recall of a, precision of b
    (good, _) = scores_by_class(alone(36, 0), ["a", "b"])
    assert sources_needed(good, 0.9) == 36
    assert faultless_sources(0.9) == 36
    assert scores_by_class(alone(35, 0), ["a", "b"])[0].recall.limits[0] < 0.9


def test_sources_of_several_classes_are_groups():
    rows = alone(4, 1)
    assert groups_of(rows).empty  # each source has one class
    found = groups_of(rows.assign(source=["p1", "p2", "p3", "p3"] * 2)).set_index("source")
    assert found.index.tolist() == ["p1", "p3", "p2"]  # the least share right first, then most images
    assert found.loc["p1"].tolist() == [2, 2, 0.5, "a as b"]
    assert found.loc["p3"].tolist() == [4, 2, 1.0, ""]
    assert groups_of(rows.assign(source="")).empty
