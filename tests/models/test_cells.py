"""Whether the cell was found: it comes out of the decoding that feeds the net, and is kept with the features."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bloodcell.data.one_cell import NET, STAIN, finder_digest
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.readers import read_imagefolder
from bloodcell.inference import features
from bloodcell.inference.features import in_memory
from tests.models.test_features import extractor, make_net, predicted

WORDS = ["found", "none", "found", "none", "none"]


def picture(with_cell, seed=0):
    """Return a smear, uint8 (60, 80, 3), with a nucleus or without."""
    pixels = np.full((60, 80, 3), (225, 200, 205), np.uint8)
    if with_cell:
        cv2.circle(pixels, (30 + 3 * seed, 30), 12, (90, 50, 140), -1)
    return pixels


@pytest.fixture
def samples(tmp_path):
    for number, word in enumerate(WORDS):
        file = tmp_path / "images" / ("a" if number < 3 else "b") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(word == "found", number)).save(file)
    return read_imagefolder(str(tmp_path / "images"))


def of_cells(root, crop="cell", finder=STAIN):
    return extractor(make_net(), root, preprocessing=Preprocessing(32, crop=crop, finder=finder))


def predictions(root, samples, tta="none"):
    return predicted(of_cells(root), samples, tta)


def test_the_preprocessing_says_what_it_saw():
    pre = Preprocessing(32, crop="cell")
    for word in ("found", "none"):
        ((pixels, square),) = pre.prepare([picture(word == "found")])
        assert pre.cell_status(square) == word
        np.testing.assert_array_equal(pixels, pre.pixels(picture(word == "found")))
    np.testing.assert_array_equal(pre.pixels(picture(False)), Preprocessing(32).pixels(picture(False)))
    assert Preprocessing(32).cell_status(Preprocessing(32).square(picture(True))) == ""


@pytest.mark.parametrize("tta", ["none", "flips"])
@pytest.mark.parametrize("keeps", [False, True])
def test_the_words_are_those_of_the_images(samples, tmp_path, monkeypatch, tta, keeps):
    looks, locate = [], "bloodcell.data.preprocessing.locate"
    monkeypatch.setattr(locate, lambda pixels: looks.append(1) or _locate(pixels))
    probabilities, cells = predictions(tmp_path / "kept" if keeps else None, samples, tta)
    assert cells == WORDS
    assert len(looks) == (3 if keeps else len(WORDS))  # no second look; kept features are those of three contents
    pre, net = Preprocessing(32, crop="cell"), make_net().eval()
    with torch.inference_mode():
        logits = net(torch.stack([pre(file) for file in samples.files()]))
    np.testing.assert_allclose(probabilities[0], torch.softmax(logits.double(), dim=1), atol=1e-6)


def _locate(pixels):
    from bloodcell.data.cell_finder import locate

    return locate(pixels)


def test_the_words_are_kept_with_the_features(samples, tmp_path, monkeypatch):
    first = predictions(tmp_path / "kept", samples)
    monkeypatch.setattr(features, "decode", lambda *_: pytest.fail("decoded again"))
    backwards = type(samples)(samples.table.iloc[::-1].reset_index(drop=True), samples.root)
    probabilities, cells = predictions(tmp_path / "kept", backwards)
    assert cells == WORDS[::-1]
    np.testing.assert_array_equal(probabilities[:, ::-1], first[0])


def test_a_damaged_word_is_not_believed(samples, tmp_path):
    """It lies under the checksum of its chunk."""
    predictions(tmp_path / "kept", samples)
    (chunk,) = (tmp_path / "kept").glob("*/*.npy")
    rows = np.load(chunk)
    rows[1, -1] = 1 - rows[1, -1]
    np.save(chunk, rows)
    assert predictions(tmp_path / "kept", samples)[1] == WORDS


@pytest.mark.parametrize("keeps", [False, True])
def test_training_is_given_the_features_alone(samples, tmp_path, keeps):
    rows = of_cells(tmp_path / "kept" if keeps else None).features(samples)
    assert rows.shape == (5, 1280)
    assert torch.as_tensor(rows[torch.tensor([4, 0])]).shape == (2, 1280)
    assert in_memory(rows).shape == (5, 1280)
    pre, net = Preprocessing(32, crop="cell"), make_net().eval()
    with torch.inference_mode():
        expected = net.features(torch.stack([pre(file) for file in samples.files()]))
    torch.testing.assert_close(rows[:], expected)


def test_what_was_kept_without_words_is_not_taken_for_it(tmp_path):
    described = of_cells(tmp_path).described()
    assert described["last column"] == "cell"
    assert "last column" not in of_cells(tmp_path, crop="none").described()


def test_features_of_another_cell_finder_are_not_taken(tmp_path, monkeypatch):
    before = [of_cells(tmp_path, finder=finder).store().folder for finder in (STAIN, NET)]
    whole = of_cells(tmp_path, crop="none").store().folder
    monkeypatch.setattr(features, "finder_digest", lambda finder: f"{finder_digest(finder)} with other weights")
    after = [of_cells(tmp_path, finder=finder).store().folder for finder in (STAIN, NET)]
    assert len({*before, *after}) == 4
    assert of_cells(tmp_path, crop="none").store().folder == whole  # a whole image depends on no finder


def test_features_by_the_stain_are_those_that_older_releases_kept(tmp_path):
    described = of_cells(tmp_path).described()
    assert described["cell finder"] == 1
    assert "finder" not in described["preprocessing"]
