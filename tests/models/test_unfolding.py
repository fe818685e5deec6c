"""Batch norm that was folded into the weights learns from where it was pretrained."""

import pytest
import torch
from torch import nn

from bloodcell.models.folded_batch_norm import folded, unfold
from bloodcell.models.net import Net
from bloodcell.runtime.schema.model import ModelConfig

MODEL = {
    "name": "mobilenet_v2", "library": "torchvision", "weights": None, "width": 0.25, "image_size": 32,
    "mean": [0.5] * 3, "std": [0.5] * 3, "head": {"pool": "avg", "hidden": 0, "dropout": 0.0},
}  # fmt: skip


def norms(net):
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture
def net():
    """Return a net whose batch norms only shift, as folding leaves them, after inputs of any mean and spread."""
    torch.manual_seed(0)
    net = Net(ModelConfig.of(MODEL), 4)
    for norm in norms(net):
        nn.init.uniform_(norm.bias, 0.0, 1.0)
    return net


@pytest.fixture
def images():
    return torch.rand(48, 3, 32, 32, generator=torch.Generator().manual_seed(1)) ** 2


def test_what_is_folded(net):
    assert folded(net)
    assert not folded(Net(ModelConfig.of(MODEL), 4))  # new: shifts by nothing
    norms(net)[-1].running_mean[0] = 0.5
    assert not folded(net)
    assert not folded(nn.Conv2d(1, 1, 1))


def test_the_function_stays_and_training_mode_computes_the_same(net, images):
    before = net.eval().features(images)
    net.train()
    far = (net.features(images) - before).abs().mean()
    fresh = Net(ModelConfig.of(MODEL), 4)
    fresh.load_state_dict(net.state_dict())
    for norm in norms(fresh):  # the training step above moved the statistics
        norm.reset_running_stats()
    assert unfold(fresh.train(), images.split(20)) == 48
    assert fresh.training
    assert not folded(fresh)
    torch.testing.assert_close(fresh.eval().features(images), before, rtol=1e-3, atol=1e-4)
    near = (fresh.train().features(images) - before).abs().mean()
    assert near < 0.05 * far


def test_the_statistics_are_those_of_all_images_however_they_are_batched(net, images):
    other = Net(ModelConfig.of(MODEL), 4)
    other.load_state_dict(net.state_dict())
    unfold(net.eval(), [images])
    unfold(other.eval(), images.split(7))
    for one, two in zip(norms(net), norms(other), strict=True):
        torch.testing.assert_close(one.running_mean, two.running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.running_var, two.running_var, rtol=1e-4, atol=1e-6)
    first = net.backbone[0][0](((images - net.mean) / net.std).to(memory_format=torch.channels_last))
    torch.testing.assert_close(norms(net)[0].running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
