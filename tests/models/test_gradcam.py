"""Grad-CAM: nets whose map is known, one that has learnt a planted blob, and all that stays as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from bloodcell.models.gradcam import NoMapError, grad_cam
from bloodcell.models.net import Net
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import ModelConfig
from tests.models.conftest import MODEL


def net_of(backbone, head, pool="avg"):
    """Return a net of this project with the given backbone, which sees images as they are, and a given head."""
    net = Net(
        ModelConfig.of(
            {**MODEL, "mean": [0.0] * 3, "std": [1.0] * 3, "head": {"pool": pool, "hidden": 0, "dropout": 0.5}}
        ),
        2,
    )
    net.backbone, net.head = backbone, head
    return net


def linear(weights):
    head = nn.Linear(len(weights[0]), len(weights), bias=False)
    head.weight.data = torch.tensor(weights)
    return head


def upsampled(small, factor):
    """Bilinear, from the definition: of the four places around a pixel, those beyond the border are the border's."""
    side = small.shape[0]
    at = ((np.arange(side * factor) + 0.5) / factor - 0.5).clip(0, side - 1)
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, side - 1), at - low
    rows = small[low] * (1 - part)[:, None] + small[high] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, high] * part


def test_the_map_of_a_net_by_hand():
    """The backbone averages squares of 8 pixels: channel k of the map is the mean colour, alpha_k from the weights."""
    weights = [[2.0, -1.0, 0.5], [0.0, 3.0, -0.5]]
    net = net_of(nn.AvgPool2d(8), linear(weights))
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2)
    images = images.repeat_interleave(8, 3)
    found = grad_cam(net, images, torch.tensor([0, 1, 1]))
    assert (found.shape, found.dtype) == ((3, 32, 32), torch.float32)
    for image, one, chosen in zip(images.numpy(), found.numpy(), (0, 1, 1), strict=True):
        places = image.reshape(3, 4, 8, 4, 8).mean(axis=(2, 4))
        alpha = (np.array(weights[chosen]) - np.mean(weights, axis=0)) / 16
        expected = upsampled(np.maximum(np.einsum("k,khw->hw", alpha, places), 0), 8)
        np.testing.assert_allclose(one, expected / expected.max(), atol=1e-5)
        assert one.max() == 1


def test_through_a_head_with_a_hidden_layer_and_the_largest_value():
    """Two places of channel 0; the head sees the larger alone, so alpha is its slope over the number of places."""
    hidden, logits = linear([[1.0], [-1.0]]), linear([[3.0, 0.0], [0.0, 5.0]])
    net = net_of(nn.Conv2d(3, 1, 1, bias=False), nn.Sequential(hidden, nn.ReLU(), nn.Dropout(0.5), logits), pool="max")
    net.backbone.weight.data = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    images = torch.zeros(1, 3, 4, 4)
    images[0, 0, 1, 2], images[0, 0, 3, 0] = 0.8, 0.4
    expected = torch.zeros(4, 4)
    expected[1, 2], expected[3, 0] = 1.0, 0.5
    torch.testing.assert_close(grad_cam(net, images, torch.tensor([0]))[0], expected)
    assert (grad_cam(net, images, torch.tensor([1])) == 0).all()  # no place speaks for the other class


def test_what_all_logits_share_makes_no_difference():
    weights = [[2.0, -1.0, 0.5], [0.0, 3.0, -0.5], [1.0, 1.0, 1.0]]
    shared = [[a + b for a, b in zip(row, (7.0, -9.0, 4.0), strict=True)] for row in weights]
    images, classes = torch.rand(3, 3, 32, 32), torch.arange(3)
    maps = [grad_cam(net_of(nn.AvgPool2d(8), linear(w)), images, classes) for w in (weights, shared)]
    torch.testing.assert_close(*maps, atol=1e-4, rtol=0)


def planted(count, seed):
    """Return noise with a red or a blue blob anywhere, float (N, 3, 48, 48); which; and where, (N, 2): row, column."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 0.3, (count, 3, 48, 48)).astype(np.float32)
    labels, places = rng.integers(0, 2, count), rng.integers(0, 48 - 12, (count, 2))
    for image, label, (y, x) in zip(images, labels, places, strict=True):
        image[2 * label, y : y + 12, x : x + 12] += 0.7
    return torch.from_numpy(images), torch.from_numpy(labels), places + 5.5


def test_the_peak_lies_on_the_blob_that_decides():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()]
    net = net_of(nn.Sequential(*layers), nn.Linear(16, 2))
    images, labels, _ = planted(64, seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    unseen, labels, places = planted(32, seed=2)
    assert (net.eval()(unseen).argmax(dim=1) == labels).all()
    maps = grad_cam(net, unseen, labels).numpy()
    peaks = np.array([np.unravel_index(one.argmax(), one.shape) for one in maps])
    assert (np.abs(peaks - places) <= 8).all()  # 6 to the blob's border, and half a place of the map


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net(ModelConfig.of({**MODEL, "image_size": 64}), 4)


def test_the_net_is_left_as_it_was(net):
    net.train()
    net.backbone[3].eval()  # as where a part does not learn yet
    for parameter in net.backbone.parameters():
        parameter.requires_grad_(False)
    net.head.logits.weight.grad = torch.full_like(net.head.logits.weight, 2.0)
    modes = [module.training for module in net.modules()]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    maps = grad_cam(net, torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.tensor([1, 3]))
    assert not maps.requires_grad
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert (net.head.logits.weight.grad == 2).all()
    assert all(parameter.grad is None for name, parameter in net.named_parameters() if name != "head.logits.weight")
    assert not any(parameter.requires_grad for parameter in net.backbone.parameters())


def test_modes_come_back_after_an_error(net):
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        grad_cam(net.train(), torch.zeros(1, 3, 64, 64), torch.tensor([5]))
    assert all(module.training for module in net.modules())


def test_the_same_each_time_whatever_is_around(net):
    images, classes = torch.rand(3, 3, 64, 64), torch.tensor([0, 1, 2])
    first = grad_cam(net, images, classes)
    assert torch.equal(grad_cam(net, images, classes), first)
    with torch.inference_mode():
        assert torch.equal(grad_cam(net, images.clone(), classes.clone()), first)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(grad_cam(net, images, classes), first)
    torch.testing.assert_close(grad_cam(net, images[1:2], classes[1:2]), first[1:2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "efficientnet_b0", "convnext_tiny", "vit_b_16"])
def test_every_map_of_torchvision(name):
    torch.manual_seed(0)
    net = Net(ModelConfig.of({**MODEL, "name": name, "width": None, "image_size": 64}), 3)
    maps = grad_cam(net, torch.rand(1, 3, 64, 64), torch.tensor([2]))
    assert maps.shape == (1, 64, 64)
    assert maps.amin() >= 0
    assert maps.amax() == 1


def test_timm_with_a_map():
    pytest.importorskip("timm", reason="it comes with the extra timm")
    net = Net(
        ModelConfig.of({**MODEL, "library": "timm", "name": "tf_efficientnet_lite0", "width": None, "image_size": 96}),
        3,
    )
    maps = grad_cam(net, torch.rand(1, 3, 96, 96), torch.tensor([0]))
    assert maps.shape == (1, 96, 96)
    assert maps.amax() == 1


def test_tokens_of_timm_have_no_places():
    pytest.importorskip("timm", reason="it comes with the extra timm")
    net = Net(
        ModelConfig.of({**MODEL, "library": "timm", "name": "vit_tiny_patch16_224", "width": None, "image_size": 224}),
        3,
    )
    with pytest.raises(NoMapError, match=r"no Grad-CAM of vit_tiny_patch16_224: its last features lie in 196 x 1 pl"):
        grad_cam(net, torch.rand(1, 3, 224, 224), torch.tensor([0]))


def test_a_single_place_is_no_map():
    with pytest.raises(BloodcellError, match=r"mobilenet_v2: its last features lie in 1 x 1 places; .*image_size"):
        grad_cam(Net(ModelConfig.of(MODEL), 4), torch.rand(1, 3, 32, 32), torch.tensor([0]))
