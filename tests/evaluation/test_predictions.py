"""The predictions table and its figures, against scikit-learn on an asymmetric matrix."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from bloodcell.metrics.predictions import (
    averaged,
    classes_of,
    confusion_of,
    predictions_table,
    report_of,
    splits_of,
)
from bloodcell.metrics.summary import lines, metrics_of

CLASSES = ["p_odd", "EOS", "MON", "NEU"]  # one that looks like a column of probabilities, in no alphabetical order
#: True classes by predicted ones; MON is there and never predicted.
COUNTS = np.array([[5, 2, 0, 1], [0, 3, 0, 4], [1, 1, 0, 2], [0, 0, 0, 9]])


def table_of(counts, classes=CLASSES, split="test", seed=0):
    """Return a predictions table with the given confusion matrix and probabilities that fit it."""
    generator = np.random.default_rng(seed)
    pairs = [(i, j) for (i, j), count in np.ndenumerate(counts) for _ in range(count)]
    probabilities = generator.dirichlet(np.ones(len(classes)), len(pairs))
    for row, (_, best) in zip(probabilities, pairs, strict=True):
        top = row.argmax()
        row[[top, best]] = row[[best, top]]
    samples = pd.DataFrame(
        {
            "path": [f"{k}.png" for k in range(len(pairs))],
            "split": split,
            "source": "",
            "label": [classes[i] for i, _ in pairs],
        }
    )
    return predictions_table(samples, classes, probabilities)


def test_a_row_is_the_sample_with_its_probabilities():
    samples = pd.DataFrame(
        {"split": ["val", "test"], "label": ["b", "a"], "source": ["s", ""], "path": ["x", "y"], "more": 1},
        index=[7, 3],
    )
    table = predictions_table(samples, ["b", "a"], np.array([[0.25, 0.75], [0.9, 0.1]]))
    assert list(table.columns) == ["path", "split", "source", "label", "prediction", "p_b", "p_a"]
    assert table.to_numpy().tolist() == [["x", "val", "s", "b", "a", 0.25, 0.75], ["y", "test", "", "a", "b", 0.9, 0.1]]
    assert table.index.tolist() == [0, 1]
    assert classes_of(table) == ["b", "a"]


def test_further_columns_are_carried_along_where_there_are_any():
    samples = pd.DataFrame({"cell": ["none", ""], "split": "val", "label": "a", "source": "", "path": ["x", "y"]})
    table = predictions_table(samples, ["a"], np.ones((2, 1)))
    assert list(table.columns) == ["path", "split", "source", "label", "prediction", "cell", "p_a"]
    table = predictions_table(samples.assign(set=["one", "two"]), ["a"], np.ones((2, 1)))
    assert list(table.columns) == ["path", "split", "source", "label", "prediction", "set", "cell", "p_a"]
    assert table[["set", "cell"]].to_numpy().tolist() == [["one", "none"], ["two", ""]]
    assert classes_of(table) == ["a"]


def test_images_without_a_cell_are_counted_where_cells_were_looked_for():
    samples = pd.DataFrame({"path": list("uvxyz"), "split": ["val"] * 2 + ["test"] * 3, "source": "", "label": "a"})
    cells = ["found", "none", "none", "none", "found"]
    metrics = metrics_of(predictions_table(samples.assign(cell=cells), ["a"], np.ones((5, 1))))
    assert (metrics["val/without_cell"], metrics["test/without_cell"]) == (1, 2)
    assert lines(metrics)[-1].startswith("no cell was found in 1 of 2 val, 2 of 3 test images, which were taken whole")
    for none in ("", "found"):
        said = lines(metrics_of(predictions_table(samples.assign(cell=none), ["a"], np.ones((5, 1)))))
        assert "no cell" not in " ".join(said)


def test_the_mean_of_tables_is_by_class_name():
    samples = pd.DataFrame({"path": ["x", "y"], "split": "val", "source": "", "label": ["a", "b"]})
    one = predictions_table(samples, ["a", "b"], np.array([[0.9, 0.1], [0.6, 0.4]]))
    other = predictions_table(samples, ["b", "a"], np.array([[0.3, 0.7], [0.8, 0.2]]))
    mean = averaged([one, other])
    assert mean[["p_a", "p_b"]].to_numpy() == pytest.approx(np.array([[0.8, 0.2], [0.4, 0.6]]))
    assert mean["prediction"].tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(averaged([one]), one)


def test_no_row_is_a_table_too():
    table = predictions_table(pd.DataFrame(columns=["path", "split", "source", "label"]), ["a", "b"], np.empty((0, 2)))
    assert len(table) == 0
    assert classes_of(table) == ["a", "b"]
    assert metrics_of(table) == {}


def test_classes_keep_their_names_and_order():
    assert classes_of(table_of(COUNTS)) == CLASSES


def test_rows_are_true_classes_and_columns_predicted_ones():
    np.testing.assert_array_equal(confusion_of(table_of(COUNTS), CLASSES), COUNTS)


def test_the_confusion_matrix_has_classes_that_are_absent():
    table = table_of(COUNTS[:2, :2], CLASSES[:2])
    expected = np.zeros((4, 4), int)
    expected[:2, :2] = COUNTS[:2, :2]
    np.testing.assert_array_equal(confusion_of(table, CLASSES), expected)


def test_metrics_are_scikit_learns():
    table = table_of(COUNTS)
    label, predicted = table["label"], table["prediction"]
    metrics = metrics_of(table)
    f1 = f1_score(label, predicted, labels=CLASSES, average=None, zero_division=0)
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(label, predicted)) == pytest.approx(17 / 28)
    assert metrics["test/macro_f1"] == pytest.approx(f1_score(label, predicted, average="macro", zero_division=0))
    assert [metrics[f"test/f1_{name}"] for name in CLASSES] == pytest.approx(f1)
    assert metrics["test/f1_MON"] == 0
    probabilities = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    positions = [CLASSES.index(name) for name in label]
    assert metrics["test/loss"] == pytest.approx(log_loss(positions, probabilities, labels=range(4)))
    assert metrics["test/images"] == 28
    assert set(metrics) == {
        f"test/{name}"
        for name in ("accuracy", "macro_f1", "loss", "ece", "brier", "images", *(f"f1_{c}" for c in CLASSES))
    }


@pytest.mark.parametrize("called", ["b", "c"])
def test_a_class_without_images_has_no_f1_and_does_not_count(called):
    """As scikit-learn with the labels that occur; predictions of an absent class are errors of the true one."""
    samples = pd.DataFrame({"path": ["x", "y", "z"], "split": "val", "source": "", "label": ["a", "b", "b"]})
    table = predictions_table(samples, ["a", "b", "c"], np.eye(3)[[0, 1, "abc".index(called)]])
    metrics, expected = metrics_of(table), {"b": 1.0, "c": (1 + 2 / 3) / 2}[called]
    assert metrics["val/macro_f1"] == pytest.approx(expected)
    assert expected == pytest.approx(f1_score(table["label"], table["prediction"], labels=["a", "b"], average="macro"))
    assert metrics["val/f1_c"] is None
    assert metrics["val/f1_a"] == 1
    report = report_of(table, ["a", "b", "c"], as_dict=True)
    assert report["c"] == {"precision": None, "recall": None, "f1-score": None, "support": 0.0}
    assert report["macro avg"]["f1-score"] == pytest.approx(expected)
    assert report["weighted avg"]["recall"] == pytest.approx(report["accuracy"])
    assert "  c           -          -          -          0" in report_of(table, ["a", "b", "c"])


@pytest.mark.parametrize("name", ["accuracy", "macro avg", "weighted avg"])
def test_a_class_that_is_called_as_a_key_of_the_report_keeps_its_scores(name):
    samples = pd.DataFrame({"path": ["x", "y"], "split": "val", "source": "", "label": [name, "b"]})
    table = predictions_table(samples, [name, "b", f"class {name}"], np.eye(3)[[0, 0]])
    report = report_of(table, [name, "b", f"class {name}"], as_dict=True)
    assert report["accuracy"] == 0.5
    assert report["macro avg"]["f1-score"] == pytest.approx(1 / 3)
    assert report[f"class class {name}"]["f1-score"] == pytest.approx(2 / 3)
    assert report[f"class {name}"]["support"] == 0
    metrics = metrics_of(table)
    assert (metrics["val/accuracy"], metrics[f"val/f1_{name}"]) == (0.5, pytest.approx(2 / 3))


def test_each_split_has_its_own_figures_in_order():
    table = pd.concat([table_of(COUNTS, split="val"), table_of(np.diag([1, 2, 3, 4]), split="test")], ignore_index=True)
    assert list(splits_of(table)) == ["val", "test"]
    metrics = metrics_of(table)
    assert metrics["val/accuracy"] == pytest.approx(17 / 28)
    assert (metrics["test/accuracy"], metrics["test/macro_f1"], metrics["test/images"]) == (1, 1, 10)


def test_a_split_of_several_sets_has_the_figures_of_each():
    one, other = table_of(COUNTS, split="val"), table_of(np.diag([3, 0, 0, 2]), split="val")
    test = table_of(COUNTS, split="test").assign(set="two")
    table = pd.concat([one.assign(set="one"), other.assign(set="two"), test], ignore_index=True)
    assert {name: len(rows) for name, rows in splits_of(table).items()} == {
        "val": 33, "val[one]": 28, "val[two]": 5, "test": 28,
    }  # fmt: skip
    metrics = metrics_of(table)
    assert metrics["val/accuracy"] == pytest.approx(22 / 33)
    assert metrics["val[one]/accuracy"] == metrics["test/accuracy"] == pytest.approx(17 / 28)
    assert metrics["val[two]/accuracy"] == metrics["val[two]/macro_f1"] == 1  # over the two classes that it has
    assert metrics["val[one]/macro_f1"] == pytest.approx(metrics["test/macro_f1"])
    assert list(splits_of(one.assign(set=""))) == ["val"]


def test_each_set_has_its_interval_where_its_sources_are_known():
    table = pd.concat([table_of(COUNTS, split="test")] * 3, ignore_index=True)
    table = table.assign(set=["one"] * 28 + ["two"] * 28 + ["three"] * 28, source=[f"s{i // 2}" for i in range(84)])
    table.loc[table["set"] == "three", "source"] = ""
    metrics = metrics_of(table, frozenset({"s0", "s20"}))
    assert {key.partition("/")[0] for key in metrics if key.endswith("accuracy_low")} == {
        "test[one]", "test[one]_disjoint", "test[two]", "test[two]_disjoint",
    }  # fmt: skip
    assert metrics["test[one]/sources"] == 14
    assert (metrics["test[two]_disjoint/sources"], metrics["test[two]_disjoint/images"]) == (13, 26)
    said = lines(metrics)
    assert [line.partition(" accuracy")[0] for line in said] == [
        "test", "test[one]", "test[one]_disjoint", "test[two]", "test[two]_disjoint", "test[three]",
    ]  # fmt: skip
    assert "sources unknown" in said[0]
    assert "14 sources" in said[1]


def test_a_probability_of_zero_gives_a_finite_loss():
    samples = pd.DataFrame({"path": ["x"], "split": "val", "source": "", "label": ["a"]})
    loss = metrics_of(predictions_table(samples, ["a", "b"], np.array([[0.0, 1.0]])))["val/loss"]
    assert loss == pytest.approx(-np.log(np.finfo(float).tiny))


def test_the_report_has_every_class_and_no_warning():
    report = report_of(table_of(COUNTS), CLASSES, as_dict=True)
    assert list(report)[:4] == CLASSES
    assert report["MON"] == {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 4.0}
    assert report["EOS"]["precision"] == pytest.approx(3 / 6)
    assert report["EOS"]["recall"] == pytest.approx(3 / 7)
    assert report["accuracy"] == pytest.approx(17 / 28)
    text = report_of(table_of(COUNTS), CLASSES)
    assert [line.split()[0] for line in text.splitlines()[2:6]] == CLASSES
    np.testing.assert_array_equal(
        confusion_matrix(table_of(COUNTS)["label"], table_of(COUNTS)["prediction"], labels=CLASSES), COUNTS
    )
