"""Failures: which cells are wrong, how often, and taken for what."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.evaluation.failures import errors_of, failures_of, typical
from bloodcell.evaluation.results import write_results
from bloodcell.metrics.by_source import sources_of


@pytest.fixture
def predictions():
    """Source s1 is wrong twice of three times, s2 once of two, s3 never; a fourth image has no source and is wrong."""
    return pd.DataFrame({
        "path": ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png"],
        "split": "val",
        "source": ["s1", "s1", "s1", "s2", "s2", "s3", ""],
        "label": ["x", "x", "x", "y", "y", "x", "y"],
        "prediction": ["y", "z", "x", "x", "y", "x", "z"],
        "p_x": [0.1, 0.3, 0.8, 0.95, 0.0, 1.0, 0.1],
        "p_y": [0.9, 0.3, 0.1, 0.05, 0.9, 0.0, 0.3],
        "p_z": [0.0, 0.4, 0.1, 0.0, 0.1, 0.0, 0.6],
    })  # fmt: skip


def test_each_wrong_source_has_a_row_the_worst_first(predictions):
    failures = failures_of(predictions)
    assert failures["source"].tolist() == ["s2", "s1", "g.png"]  # by the probability of the wrong class
    np.testing.assert_allclose(failures["confidence"], [0.95, 0.9, 0.6])
    np.testing.assert_allclose(failures["p_label"], [0.475, 0.4, 0.3])
    np.testing.assert_allclose(failures["right"], [1 / 2, 1 / 3, 0])
    assert failures["images"].tolist() == [2, 3, 1]
    assert failures["mistaken_for"].tolist() == ["x", "y", "z"]
    assert failures["path"].tolist() == ["d.png", "a.png", "g.png"]


def test_a_class_may_be_called_label(predictions):
    renamed = predictions.rename(columns={"p_y": "p_label"}).replace({"y": "label"})
    pd.testing.assert_frame_equal(failures_of(renamed), failures_of(predictions).replace({"y": "label"}))


def test_of_errors_that_are_equally_sure_the_worse_gave_less_to_the_truth(predictions):
    rows = predictions.assign(p_x=[0.2, 0.3, 0.8, 0.9, 0.0, 1.0, 0.1], p_y=[0.6, 0.3, 0.1, 0.1, 0.9, 0.0, 0.1])
    assert errors_of(rows)["path"].tolist() == ["d.png", "g.png", "a.png", "b.png"]
    assert errors_of(rows[::-1])["path"].tolist() == ["d.png", "g.png", "a.png", "b.png"]


def test_typical_images_are_right_of_several_sources_and_of_median_confidence():
    confidence = [0.99, 0.6, 0.8, 0.7, 0.7, 0.9]
    rows = pd.DataFrame({"path": list("abcdef"), "split": "val", "source": ["1", "2", "3", "3", "4", "5"]})
    rows = rows.assign(label=["x"] * 4 + ["y"] * 2, prediction=["x"] * 5 + ["y"], p_x=confidence)
    rows["p_y"] = 1 - rows["p_x"].where(rows["prediction"] == "x", 0.1)
    assert typical(rows, ["x", "y"], 12)["path"].tolist() == ["c", "a", "f"]
    assert typical(rows, ["x", "y"], 2)["path"].tolist() == ["c", "f"]
    assert typical(rows, ["y"], 12)["path"].tolist() == ["f"]


def test_an_image_without_a_source_is_its_own(predictions):
    rows = predictions.assign(source=["s1", "s1", None, "", "", "", ""], path=["a", "b", "c", "d", "", "", None])
    assert sources_of(rows).tolist() == ["s1", "s1", "c", "d", "row 4", "row 5", "row 6"]


def test_if_nothing_is_wrong_the_table_is_empty_and_there_is_no_figure(predictions, tmp_path):
    right = predictions[predictions["label"] == predictions["prediction"]]
    write_results(tmp_path, right, root=tmp_path)
    assert pd.read_csv(tmp_path / "failures.csv").empty
    assert not list((tmp_path / "figures").glob("failures*"))


def test_the_failures_are_drawn_if_figures_are_wanted(predictions, tmp_path):
    for path in predictions["path"]:
        Image.new("RGB", (12, 9)).save(tmp_path / path)
    write_results(tmp_path, predictions, root=tmp_path, figures=False)
    assert not (tmp_path / "figures").exists()
    write_results(tmp_path, predictions, root=tmp_path)
    with Image.open(tmp_path / "figures" / "failures_val.png") as figure:
        assert figure.width > figure.height
