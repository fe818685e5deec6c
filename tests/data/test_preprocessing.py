"""Preprocessing: the same tensor for a file, an array and a Pillow image."""

import numpy as np
import pytest
import torch
from PIL import Image

from bloodcell.data.images import ImageError, read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.runtime.errors import BloodcellError


def test_file_array_and_pillow_image_give_the_same(tmp_path, write_image):
    file = write_image(tmp_path / "a.jpg", size=(64, 48))
    pre = Preprocessing(32)
    from_file = pre(file)
    assert from_file.shape == (3, 32, 32)
    assert from_file.dtype == torch.uint8
    with Image.open(file) as image:
        others = [pre(str(file)), pre(read_image(file)), pre(image)]
    assert all(torch.equal(from_file, other) for other in others)


def test_a_rotated_transparent_grey_pillow_image_is_read_like_its_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 2), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert torch.equal(Preprocessing(16)(image), Preprocessing(16)(tmp_path / "a.png"))


def test_the_whole_image_is_resized_and_not_cropped():
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[:, :160, 0], pixels[120:, :, 1] = 255, 255
    out = Preprocessing(224)(pixels)
    assert out[0, :, :110].min() == 255
    assert out[0, :, 114:].max() == 0
    assert out[1, :110].max() == 0
    assert out[1, 114:].min() == 255


def test_it_is_pillows_bilinear_filter_with_antialiasing():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    out = Preprocessing(16)(pixels).float()
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), size=16, mode="bilinear", antialias=True
    )[0]
    assert (out - expected).abs().max() <= 1


def test_an_image_of_the_same_size_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Preprocessing(32)(pixels).permute(1, 2, 0).numpy(), pixels)
    np.testing.assert_array_equal(Preprocessing(32)(pixels[:, ::-1]).permute(1, 2, 0).numpy(), pixels[:, ::-1])


@pytest.mark.parametrize("size", [16, 299, 4096])
def test_it_can_be_rebuilt_from_plain_values(size):
    assert Preprocessing(**Preprocessing(size).as_dict()) == Preprocessing(size)
    assert Preprocessing(size).as_dict() == {"image_size": size, "crop": "none", "crop_size": 2.0}


@pytest.mark.parametrize("size", [15, 4097, 224.0, "224", None, True])
def test_a_wrong_size_is_refused(size):
    with pytest.raises(BloodcellError, match=f"image_size={size}; give whole pixels from 16 to 4096"):
        Preprocessing(size)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused(array):
    with pytest.raises(BloodcellError, match=r"uint8 \(H, W, 3\) RGB; this one is"):
        Preprocessing()(array)


def test_a_bad_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        Preprocessing()(tmp_path / "gone.png")


@pytest.mark.parametrize("values", [{"crop": "nucleus"}, {"crop_size": 0.5}, {"crop_size": 11}, {"crop": None}])
def test_a_wrong_crop_is_refused(values):
    with pytest.raises(BloodcellError, match="choose none or cell, and 1 to 10 diameters"):
        Preprocessing(32, **values)
