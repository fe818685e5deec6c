"""Augmentation: geometric and colour changes of an image, and random numbers from torch only."""

import random

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from bloodcell.data import augment
from bloodcell.data.augment import Augment, build_augment
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import AugmentConfig

STRONG = {"rotation": 180.0, "flip": True, "scale": 0.25, "shift": 0.1, "stain": 0.3, "white_balance": 0.1}
STRONG |= {"brightness": 0.25, "contrast": 0.25, "gamma": 0.2, "blur": 0.02}


@pytest.fixture
def images():
    return torch.randint(0, 256, (16, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draw(seed, images, **values):
    torch.manual_seed(seed)
    return Augment(AugmentConfig(**values))(images)


def test_default_values_change_nothing(images):
    torch.testing.assert_close(Augment(AugmentConfig())(images), images.float() / 255, atol=1e-5, rtol=0)


def test_uint8_and_float_give_the_same(images):
    torch.testing.assert_close(draw(1, images, **STRONG), draw(1, images.float() / 255, **STRONG))


def test_two_draws_differ_and_a_seed_repeats_one(images):
    first, again, other = draw(1, images, **STRONG), draw(1, images, **STRONG), draw(2, images, **STRONG)
    assert torch.equal(first, again)
    assert all((a - b).abs().mean() > 0.01 for a, b in zip(first, other, strict=True))
    assert first.shape == (16, 3, 20, 20)
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1


def test_each_image_of_a_batch_has_its_own_numbers(images):
    same = draw(1, images[:1].repeat(8, 1, 1, 1), **STRONG)
    assert all((same[0] - other).abs().mean() > 0.01 for other in same[1:])


def test_only_torchs_random_generator_is_used(images):
    random.seed(0)
    np.random.seed(0)
    numpy_before, python_before = np.random.get_state()[1].copy(), random.getstate()
    first = draw(1, images, **STRONG)
    assert random.getstate() == python_before
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
    random.seed(1)
    np.random.seed(1)
    assert torch.equal(draw(1, images, **STRONG), first)


def test_half_of_the_images_are_mirrored(images):
    many = images.repeat(25, 1, 1, 1)
    out, plain = draw(0, many, flip=True), many.float() / 255
    kept = (out - plain).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (out - plain.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert (kept ^ mirrored).all()
    assert 160 < mirrored.sum() < 240  # of 400; five standard deviations are 50


def with_angle(monkeypatch, images, degrees, **values):
    """Augment with the largest draw of every number: the whole angle, shift and so on."""
    largest = "bloodcell.data.augment._uniform"
    monkeypatch.setattr(largest, lambda batch, limit, *_: torch.full((len(batch),), float(limit)))
    return Augment(AugmentConfig(rotation=degrees, **values))(images)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (270, 3)])
def test_right_angles_rotate_the_image_exactly(monkeypatch, images, degrees, quarters):
    out = with_angle(monkeypatch, images, degrees)
    torch.testing.assert_close(out, torch.rot90(images.float() / 255, quarters, (2, 3)), atol=1e-4, rtol=0)


def test_half_a_turn_of_an_image_that_is_not_square(monkeypatch, images):
    wide = images[:, :, :12]
    torch.testing.assert_close(with_angle(monkeypatch, wide, 180), (wide.float() / 255).flip((2, 3)), atol=1e-4, rtol=0)


def test_rotation_keeps_a_disc_round_in_an_image_that_is_not_square(monkeypatch):
    y, x = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    disc = (x**2 + y**2 < 12**2).float().expand(1, 3, 40, 80)
    out = with_angle(monkeypatch, disc, 37)
    assert (out - disc).abs().mean() < 0.01


def test_no_black_corners():
    white = torch.full((8, 3, 32, 32), 255, dtype=torch.uint8)
    values = {key: STRONG[key] for key in ("rotation", "flip", "scale", "shift")}
    assert draw(0, white, **values).min() > 0.999


def test_scale_and_shift_have_the_given_size(monkeypatch):
    point = torch.zeros(1, 3, 21, 21)
    point[:, :, 10, 10] = 1
    shifted = with_angle(monkeypatch, point, 0, shift=5 / 21)
    assert (shifted[0, 0] > 0.99).nonzero().tolist() == [[5, 5]]
    square = torch.zeros(1, 3, 40, 40)
    square[:, :, 12:28, 12:28] = 1
    zoomed = with_angle(monkeypatch, square, 0, scale=0.5)
    assert zoomed[0, 0].sum().sqrt() == pytest.approx(16 * 1.5, rel=0.03)


def test_brightness_and_contrast(monkeypatch):
    images = torch.tensor([0.2, 0.4]).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    bright = with_angle(monkeypatch, images, 0, brightness=0.5)[0, 0, 0]
    torch.testing.assert_close(bright, torch.tensor([0.3, 0.6]))
    contrast = with_angle(monkeypatch, images, 0, contrast=0.5)[0, 0, 0]
    torch.testing.assert_close(contrast, torch.tensor([0.15, 0.45]))  # about the mean, 0.3


@pytest.mark.parametrize("name", ["none", "light", "strong"])
def test_shipped_options_can_be_built(compose, name, images):
    from bloodcell.runtime.config import plain

    built = build_augment(plain(compose(f"augment={name}").augment))
    assert isinstance(built, nn.Identity if name == "none" else Augment)
    assert (built(images) is images) == (name == "none")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rotaton": 10}, "augment: .*rotaton"),
        ({"rotation": -1}, "augment: values are 0 or more"),
        ({"scale": 1.0}, "the factors below 1"),
        ({"rotation": None}, "augment: "),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(BloodcellError, match=message):
        build_augment({"name": "mine", **values})


@pytest.fixture
def photographs():
    return 0.02 + 0.96 * torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(0))


ONES, ZEROS = torch.ones(4), torch.zeros(4)


def test_neutral_numbers_change_nothing(photographs):
    for changed in (
        augment.stain(photographs, torch.ones(4, 3), torch.zeros(4, 3)),
        augment.white_balance(photographs, torch.ones(4, 3)),
        augment.light(photographs, ONES, ONES, ONES),
        augment.blur(photographs, ZEROS),
    ):
        torch.testing.assert_close(changed, photographs, atol=1e-5, rtol=0)


def test_stain_scales_the_density_of_one_stain_alone():
    # the vectors of Ruifrok and Johnston
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    haematoxylin, eosin, rest = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def field(*densities):
        mixed = sum(density * vector for density, vector in zip(densities, (haematoxylin, eosin, rest), strict=True))
        return torch.from_numpy(np.exp(-mixed)).float().view(1, 3, 1, 1)

    changed = augment.stain(field(0.5, 0.2, 0), torch.tensor([[1.2, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.05]]))
    torch.testing.assert_close(changed, field(0.6, 0.2, 0.05), atol=1e-5, rtol=0)


def test_stain_leaves_the_bare_slide_white():
    white = torch.ones(1, 3, 2, 2)
    assert torch.equal(augment.stain(white, torch.full((1, 3), 1.3), torch.zeros(1, 3)), white)


def test_white_balance_and_light(photographs):
    gains = torch.tensor([[1.1, 1.0, 0.9]]).repeat(4, 1)
    balanced = augment.white_balance(photographs, gains)
    torch.testing.assert_close(balanced[:, 2], photographs[:, 2] * 0.9)
    assert balanced[:, 0].max() == 1  # clipped at white
    torch.testing.assert_close(augment.light(photographs, ONES, ONES, 2 * ONES), photographs**2)


def test_each_image_has_its_own_colour_change(photographs):
    strengths = torch.tensor([1.0, 1.5, 1.0, 0.5])[:, None].repeat(1, 3)
    moved = (augment.stain(photographs, strengths, torch.zeros(4, 3)) - photographs).abs().amax((1, 2, 3)) > 1e-3
    assert moved.tolist() == [False, True, False, True]
    moved = (augment.blur(photographs, torch.tensor([0.0, 1.0, 0.0, 2.0])) - photographs).abs().amax((1, 2, 3)) > 1e-3
    assert moved.tolist() == [False, True, False, True]


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_blur_is_opencvs(photographs, sigma):
    blurred = augment.blur(photographs, torch.full((4,), sigma))
    size = 2 * int(np.ceil(3 * sigma)) + 1
    wanted = cv2.GaussianBlur(
        photographs[1].permute(1, 2, 0).numpy(), (size, size), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    torch.testing.assert_close(blurred[1].permute(1, 2, 0), torch.from_numpy(wanted), atol=2e-5, rtol=0)


def test_blur_of_an_image_smaller_than_the_kernel():
    assert augment.blur(torch.rand(1, 3, 3, 3), torch.tensor([5.0])).shape == (1, 3, 3, 3)
