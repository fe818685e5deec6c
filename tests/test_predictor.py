"""The way in from Python gives the same probabilities as the run."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bloodcell
from bloodcell.data.images import read_image
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture(scope="module")
def predictor(quick_run):
    return bloodcell.load(quick_run, device="cpu")


def test_files_arrays_and_pillow_images_give_the_runs_probabilities(predictor, quick_run, smears):
    rows = pd.read_csv(quick_run / "predictions.csv").query("split == 'test'").head(5)
    files = [smears.root / path for path in rows["path"]]
    expected = rows.filter(like="p_").to_numpy()
    for images in (files, [str(f) for f in files], [read_image(f) for f in files], [Image.open(f) for f in files]):
        table = predictor.predict(images)
        assert table.filter(like="p_").to_numpy() == pytest.approx(expected, abs=1e-6)
        assert list(table["prediction"]) == list(rows["prediction"])


def test_one_image_is_one_row(predictor, smears):
    file = smears.files()[0]
    assert len(predictor.predict(file)) == 1
    assert len(predictor.predict(read_image(file))) == 1
    assert len(predictor.predict([])) == 0


def test_a_wrong_array_or_file_is_one_clear_line(predictor, tmp_path):
    with pytest.raises(BloodcellError, match=r"uint8 \(H, W, 3\) RGB; this one is float64 \(8, 8, 3\)"):
        predictor.predict(np.zeros((8, 8, 3)))
    with pytest.raises(BloodcellError, match=r"absent\.png: no such file"):
        predictor.predict(tmp_path / "absent.png")


def test_load_says_what_it_wants(tmp_path):
    with pytest.raises(BloodcellError, match="holds no checkpoint"):
        bloodcell.load(tmp_path)
