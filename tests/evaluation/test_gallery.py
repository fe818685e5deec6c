"""The gallery: which errors are shown, and what their pictures hold."""

import io

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.data.cell_finder import locate
from bloodcell.evaluation.failures import failures_of, worst_errors
from bloodcell.evaluation.gallery import CAPTION, GAP, MOST_BYTES, SIDE, pictures_of
from bloodcell.runtime.errors import BloodcellError
from tests.models.conftest import CLASSES, build

STRIDE = SIDE + GAP


def table(paths, source="s", label="EOS", prediction="NEU", sure=0.9):
    """Return a predictions table, a row for each path."""
    rows = pd.DataFrame({"path": paths, "split": "val"}).assign(source=source, label=label, prediction=prediction)
    for name in CLASSES:
        rows[f"p_{name}"] = np.where(rows["prediction"] == name, sure, (1 - np.asarray(sure)) / 3)
    return rows


def classifier(crop="none", size=64):
    built = build(image_size=size)
    built.hparams["preprocessing"] = {"image_size": size, "crop": crop, "crop_size": 2.0}
    return built


@pytest.fixture
def smear(tmp_path):
    """Write a smear with a nucleus at (110, 60), of 40 pixels, in a field of 160 x 120."""
    pixels = np.full((120, 160, 3), (225, 200, 205), np.uint8)
    cv2.circle(pixels, (110, 60), 20, (90, 50, 140), -1)
    Image.fromarray(pixels).save(tmp_path / "smear.png")
    return pixels


def panels(shown):
    """Return the panels of a picture, each uint8 (SIDE, SIDE, 3), without captions."""
    with Image.open(io.BytesIO(shown.jpeg)) as picture:
        assert picture.format == "JPEG"
        pixels = np.asarray(picture)
    assert pixels.shape[0] == SIDE + CAPTION
    return [pixels[:SIDE, left : left + SIDE] for left in range(0, pixels.shape[1], STRIDE)]


def test_the_most_confident_errors_one_of_a_source():
    rows = table(list("abcdefg"), sure=[0.7, 0.8, 0.99, 0.6, 0.9, 0.5, 0.95])
    rows["source"] = ["s1", "s1", "s1", "s2", "", "", "s3"]
    rows.loc[2, "prediction"] = "EOS"  # the surest of all is right
    assert worst_errors(rows, 10)["path"].tolist() == ["g", "e", "b", "d", "f"]
    assert worst_errors(rows, 2)["path"].tolist() == ["g", "e"]
    assert list(worst_errors(rows, 2).columns) == list(rows.columns)
    assert worst_errors(rows, 10)["path"].tolist() == failures_of(rows)["path"].tolist()
    assert worst_errors(rows[rows["prediction"] == "EOS"], 3).empty


def test_a_picture_has_the_values_of_its_row(smear, tmp_path):
    rows = table(["smear.png", "smear.png"], source=["s", None], prediction=["NEU", "LYM"], sure=[0.9, 0.4])
    first, second = pictures_of(rows, tmp_path, None)
    assert (first.path, first.source, first.label, first.prediction) == ("smear.png", "s", "EOS", "NEU")
    assert first.confidence == pytest.approx(0.9)
    assert (second.source, second.prediction, second.confidence) == ("", "LYM", pytest.approx(0.4))


def test_without_a_classifier_the_image_alone(smear, tmp_path):
    (only,) = panels(pictures_of(table(["smear.png"]), tmp_path, None)[0])
    large = cv2.resize(smear, (SIDE, SIDE * 3 // 4)).astype(int)
    assert np.abs(only[25:175] - large).mean() < 3
    assert (only[:20] > 250).all()


def test_a_net_of_whole_fields_has_the_image_and_its_map(smear, tmp_path):
    image, looked = panels(pictures_of(table(["smear.png"]), tmp_path, classifier())[0])
    assert np.ptp(image[25:175].astype(int), axis=2).max() > 50
    assert np.abs(looked.astype(int) - image).mean() > 10


def test_a_net_of_cells_has_the_square_too_and_its_map_on_it(smear, tmp_path):
    image, located, looked = panels(pictures_of(table(["smear.png"]), tmp_path, classifier("cell"))[0])
    cell = locate(smear)
    scale = SIDE / 160
    left, top, side = (value * scale for value in cell.square(2.0))
    changed = np.argwhere(np.abs(located.astype(int) - image).max(axis=2) > 60)
    np.testing.assert_allclose(changed.min(axis=0), (top + 25, left), atol=4)
    np.testing.assert_allclose(changed.max(axis=0), (top + side + 25, left + side), atol=4)
    assert (looked[2:-2, 2:-2].max(axis=2) < 250).all()  # the crop is a square and fills its panel


def test_where_no_cell_is_located_the_whole_image_is_taken(tmp_path):
    Image.new("RGB", (160, 120), (225, 200, 205)).save(tmp_path / "empty.png")
    image, located, looked = panels(pictures_of(table(["empty.png"]), tmp_path, classifier("cell"))[0])
    assert np.abs(image.astype(int) - located).mean() < 1  # no square, and JPEG
    assert (looked[:20] > 250).all()  # not a square


def test_the_map_is_that_of_the_predicted_class(smear, tmp_path, monkeypatch):
    asked = []

    def noted(net, images, classes):
        asked.append((tuple(images.shape), classes.tolist()))
        return images[:, 0] / 255

    monkeypatch.setattr("bloodcell.evaluation.gallery.grad_cam", noted)
    rows = table(["smear.png"] * 2, label="EOS", prediction=["NEU", "LYM"])
    pictures_of(rows, tmp_path, classifier("cell"))
    assert asked == [((1, 3, 64, 64), [CLASSES.index("NEU")]), ((1, 3, 64, 64), [CLASSES.index("LYM")])]


@pytest.mark.parametrize("sees", [None, "cell"])
def test_a_missing_file_is_named(smear, tmp_path, monkeypatch, sees):
    said = []
    monkeypatch.setattr("bloodcell.evaluation.gallery._text_panel", lambda text: said.append(text) or smear)
    shown = pictures_of(table(["gone.png", "smear.png", ""]), tmp_path, sees and classifier(sees))
    assert said == ["gone.png: no such file", "the table names no file"]
    assert len(panels(shown[0])) == 1
    assert len(panels(shown[1])) == (3 if sees else 1)


def test_a_net_without_a_map_says_so(smear, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("bloodcell.evaluation.gallery._text_panel", lambda text: said.append(text) or smear)
    assert len(panels(pictures_of(table(["smear.png"]), tmp_path, classifier(size=32))[0])) == 2
    assert said[0].startswith("no Grad-CAM of mobilenet_v2: its last features lie in 1 x 1 places")


def test_words_are_dark_on_light(tmp_path):
    (panel,) = panels(pictures_of(table(["gone.png"]), tmp_path, None)[0])
    assert (panel > 200).mean() > 0.9
    assert (panel < 80).sum() > 50


def test_a_class_that_the_classifier_does_not_know(smear, tmp_path):
    rows = table(["smear.png"]).rename(columns={"p_NEU": "p_BAS"}).assign(prediction="BAS")
    with pytest.raises(BloodcellError, match=r"the classifier knows no class BAS; it knows EOS, LYM, MON, NEU"):
        pictures_of(rows, tmp_path, classifier())


def test_24_pictures_of_pure_grain_stay_small(tmp_path, write_image):
    """Noise is the worst there is for JPEG; as text in a page bytes become four thirds."""
    write_image(tmp_path / "noise.png", size=(200, 200))
    (noise,) = pictures_of(table(["noise.png"]), tmp_path, classifier("cell"))
    assert len(noise.jpeg) <= MOST_BYTES
    assert 24 * 4 / 3 * MOST_BYTES < 1.5e6


def test_pictures_repeat_to_the_byte(smear, tmp_path):
    net = classifier("cell")
    rows = table(["smear.png"])
    assert pictures_of(rows, tmp_path, net) == pictures_of(rows, tmp_path, net)
