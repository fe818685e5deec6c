"""The Kaggle set itself, where BLOODCELL_DATA names the folder that holds dataset2-master and dataset-master."""

import os
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from bloodcell.audits.pipeline import audit

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("BLOODCELL_DATA" not in os.environ, reason="BLOODCELL_DATA does not name the Kaggle set"),
]


def kaggle(splits):
    root = Path(os.environ["BLOODCELL_DATA"])
    images = next(path for path in [root, *root.glob("**/dataset2-master/images")] if (path / "TRAIN").is_dir())
    photographs = next(root.glob("**/JPEGImages"))
    rows = [
        (path.relative_to(images).as_posix(), path.parent.name, split.lower())
        for split in splits
        for path in sorted((images / split).glob("*/*.jpeg"))
    ]
    return pd.DataFrame(rows, columns=["path", "label", "split"]), images, photographs


def test_kaggle_set_with_its_originals(tmp_path):
    samples, images, photographs = kaggle(["TRAIN", "TEST", "TEST_SIMPLE"])
    found = audit(samples, images, photographs, tmp_path)
    assert (found.sources["strength"] == "strong").mean() >= 0.975
    assert found.sources["photograph"].nunique() == 348
    leaks = found.leaks[(found.leaks["split_a"] == "train") & (found.leaks["split_b"] == "test")]
    assert len(leaks) == 6
    assert found.conflicts["source"].nunique() == 1
    assert "2,487 test images show 68 cells; 4 of class MONOCYTE." in found.verdict()


def test_grouping_without_originals_agrees(tmp_path):
    samples, images, photographs = kaggle(["TEST"])
    truth = audit(samples, images, photographs, tmp_path).sources["source"]
    found = audit(samples, images, None, tmp_path).sources["source"]
    assert adjusted_rand_score(truth, found) >= 0.97
    assert (truth.groupby(found).transform("nunique") > 1).mean() <= 0.005
