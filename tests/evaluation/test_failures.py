"""Failures: which cells are wrong, how often, and taken for what."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.evaluation.failures import failures_of, write_failures


@pytest.fixture
def predictions():
    """Source s1 is wrong twice of three times, s2 once of two, s3 never; a fourth image has no source and is wrong."""
    return pd.DataFrame({
        "path": ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png"],
        "split": "val",
        "source": ["s1", "s1", "s1", "s2", "s2", "s3", ""],
        "label": ["x", "x", "x", "y", "y", "x", "y"],
        "prediction": ["y", "z", "x", "x", "y", "x", "z"],
        "p_x": [0.1, 0.3, 0.8, 0.9, 0.0, 1.0, 0.1],
        "p_y": [0.9, 0.3, 0.1, 0.1, 0.9, 0.0, 0.3],
        "p_z": [0.0, 0.4, 0.1, 0.0, 0.1, 0.0, 0.6],
    })  # fmt: skip


def test_each_wrong_source_has_a_row_the_worst_first(predictions):
    failures = failures_of(predictions)
    assert failures["source"].tolist() == ["g.png", "s1", "s2"]  # by the mean probability of the true class
    np.testing.assert_allclose(failures["p_label"], [0.3, 0.4, 0.5])
    np.testing.assert_allclose(failures["right"], [0, 1 / 3, 1 / 2])
    assert failures["images"].tolist() == [1, 3, 2]
    assert failures["mistaken_for"].tolist() == ["z", "y", "x"]
    assert failures["path"].tolist() == ["g.png", "a.png", "d.png"]


def test_nothing_wrong_leaves_an_empty_table_and_no_sheet(predictions, tmp_path):
    right = predictions[predictions["label"] == predictions["prediction"]]
    write_failures(right, tmp_path, tmp_path, figures=True)
    assert pd.read_csv(tmp_path / "failures.csv").empty
    assert list((tmp_path / "figures").iterdir()) == []


def test_a_sheet_is_drawn_where_figures_are_wanted(predictions, tmp_path):
    for path in predictions["path"]:
        Image.new("RGB", (12, 9)).save(tmp_path / path)
    write_failures(predictions, tmp_path, tmp_path, figures=False)
    assert not (tmp_path / "figures").exists()
    write_failures(predictions, tmp_path, tmp_path, figures=True)
    with Image.open(tmp_path / "figures" / "failures_val.png") as sheet:
        assert sheet.width > sheet.height
