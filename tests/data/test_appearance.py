"""Appearance: each change does what its number says, and the neutral number nothing."""

import cv2
import numpy as np
import pytest
import torch

from bloodcell.data import augment as appearance


@pytest.fixture
def images():
    return 0.02 + 0.96 * torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(0))


ONES, ZEROS = torch.ones(4), torch.zeros(4)


def test_neutral_numbers_change_nothing(images):
    for changed in (
        appearance.stain(images, torch.ones(4, 3), torch.zeros(4, 3)),
        appearance.white_balance(images, torch.ones(4, 3)),
        appearance.light(images, ONES, ONES, ONES),
        appearance.blur(images, ZEROS),
    ):
        torch.testing.assert_close(changed, images, atol=1e-5, rtol=0)


def test_stain_scales_the_density_of_one_stain_alone():
    # Ruifrok and Johnston's vectors, written out anew
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    haematoxylin, eosin, rest = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def field(*densities):
        mixed = sum(density * vector for density, vector in zip(densities, (haematoxylin, eosin, rest), strict=True))
        return torch.from_numpy(np.exp(-mixed)).float().view(1, 3, 1, 1)

    changed = appearance.stain(field(0.5, 0.2, 0), torch.tensor([[1.2, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.05]]))
    torch.testing.assert_close(changed, field(0.6, 0.2, 0.05), atol=1e-5, rtol=0)


def test_stain_leaves_the_bare_slide_white():
    white = torch.ones(1, 3, 2, 2)
    assert torch.equal(appearance.stain(white, torch.full((1, 3), 1.3), torch.zeros(1, 3)), white)


def test_white_balance_and_light(images):
    gains = torch.tensor([[1.1, 1.0, 0.9]]).repeat(4, 1)
    balanced = appearance.white_balance(images, gains)
    torch.testing.assert_close(balanced[:, 2], images[:, 2] * 0.9)
    assert balanced[:, 0].max() == 1  # what is brighter than white is white
    torch.testing.assert_close(appearance.light(images, ONES, ONES, 2 * ONES), images**2)


def test_each_image_has_its_own_numbers(images):
    strengths = torch.tensor([1.0, 1.5, 1.0, 0.5])[:, None].repeat(1, 3)
    moved = (appearance.stain(images, strengths, torch.zeros(4, 3)) - images).abs().amax((1, 2, 3)) > 1e-3
    assert moved.tolist() == [False, True, False, True]
    moved = (appearance.blur(images, torch.tensor([0.0, 1.0, 0.0, 2.0])) - images).abs().amax((1, 2, 3)) > 1e-3
    assert moved.tolist() == [False, True, False, True]


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_blur_is_opencvs(images, sigma):
    blurred = appearance.blur(images, torch.full((4,), sigma))
    size = 2 * int(np.ceil(3 * sigma)) + 1
    wanted = cv2.GaussianBlur(
        images[1].permute(1, 2, 0).numpy(), (size, size), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    torch.testing.assert_close(blurred[1].permute(1, 2, 0), torch.from_numpy(wanted), atol=2e-5, rtol=0)


def test_blur_of_a_picture_smaller_than_the_kernel():
    assert appearance.blur(torch.rand(1, 3, 3, 3), torch.tensor([5.0])).shape == (1, 3, 3, 3)
