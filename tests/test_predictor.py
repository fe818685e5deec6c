"""The way in from Python gives the same probabilities as the run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bloodcell
from bloodcell.cli import call
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
    with pytest.raises(BloodcellError, match=r"no such file or folder: images=.*absent\.png"):
        predictor.predict(tmp_path / "absent.png")
    with pytest.raises(BloodcellError, match="on_bad_image=skip; give list or error"):
        predictor.predict([], on_bad_image="skip")


def test_what_cannot_be_read_is_listed_and_the_others_keep_their_names(predictor, smears, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    array = read_image(smears.files()[1])
    given = [smears.files()[0], tmp_path / "text.png", array, tmp_path / "absent.png", array]
    table = predictor.predict(given)
    assert list(table["path"]) == [str(smears.files()[0]), "array_2", "array_4"]
    bad = table.attrs["bad"]
    assert list(bad) == [str(tmp_path / "text.png"), str(tmp_path / "absent.png")]
    assert bad[str(tmp_path / "absent.png")] == "no such file"
    assert "2 images cannot be read" in capsys.readouterr().out
    assert predictor.predict([array]).attrs["bad"] == {}


def test_a_folder_and_a_pattern_give_the_table_of_the_command_line(predictor, quick_run, smears, tmp_path):
    for number, file in enumerate(smears.files()[:70]):  # more than one group
        (tmp_path / "cells" / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cells" / f"{number % 3}" / f"{number}.jpg").write_bytes(file.read_bytes())
    own = {"device": "cpu", "abstain_below": 0.257, "output": tmp_path / "table.csv", "checkpoint": quick_run}
    call("predict", tmp_path / "cells", own)
    expected = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    for given in (tmp_path / "cells", [tmp_path / "cells"], f"{tmp_path}/cells/*/*.jpg"):
        table = predictor.predict(given, abstain_below=0.257)
        assert list(table) == list(expected)
        root = "" if isinstance(given, Path) else f"{tmp_path}/cells/"  # of one folder, the paths are relative to it
        assert list(table["path"]) == [root + path for path in expected["path"]]
        assert table["abstained"].to_list() == expected["abstained"].to_list()
        assert table["prediction"].to_list() == expected["prediction"].to_list()
        numbers = [name for name in expected if name.startswith("p_")]
        np.testing.assert_allclose(table[numbers], expected[numbers], rtol=0, atol=1e-6)
        assert not {"left", "cell", "unlike"} & set(table)


def test_load_says_what_it_wants(tmp_path):
    with pytest.raises(BloodcellError, match="holds no checkpoint"):
        bloodcell.load(tmp_path)
