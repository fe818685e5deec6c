"""Adaptation to another laboratory: batch norm takes its images' statistics, and nothing else moves."""

import pytest
import torch
from torch import nn

from bloodcell.inference.adaptation import PRIOR, adapt_batch_norm
from bloodcell.models.net import Net
from bloodcell.runtime.config import plain
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import ModelConfig


class OneNorm(nn.Module):
    """Stands in for a net whose statistics can be computed by hand."""

    name = "one_norm"

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def features(self, images):
        return self.norm(images.float() / 255).mean((2, 3))


def batches(count=4, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator) for _ in range(count)]


def test_statistics_are_those_of_the_images_weighed_against_the_old_ones():
    net, images = OneNorm(), batches()
    net.norm.running_mean.fill_(2.0)
    adapt_batch_norm(net, images)
    pixels = torch.cat(images).float() / 255
    wanted = (PRIOR * 2.0 + 64 * pixels.mean((0, 2, 3))) / (PRIOR + 64)
    torch.testing.assert_close(net.norm.running_mean, wanted)
    spread = torch.stack([(batch.float() / 255).var((0, 2, 3)) for batch in images]).mean(0)
    torch.testing.assert_close(net.norm.running_var, (PRIOR * 1.0 + 64 * spread) / (PRIOR + 64))
    assert net.norm.momentum == 0.1
    assert not net.norm.training


def test_no_weight_moves(compose):
    config = compose("model=mobilenetv2", "model.weights=null", "model.width=0.25", "model.image_size=32")
    net = Net(ModelConfig.of(plain(config.model)), 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    adapt_batch_norm(net, batches())
    after = net.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in moved)
    assert not any(module.training for module in net.modules())


def test_it_undoes_another_lamp():
    """Of images at half the light the adapted norm makes what the old one made of the originals."""
    net, images = OneNorm(), batches(count=60)
    pixels = torch.cat(images).float() / 255
    net.norm.running_mean, net.norm.running_var = pixels.mean((0, 2, 3)), pixels.var((0, 2, 3))
    net.eval()
    wanted = net.features(images[0])
    dark = [image.float() / 2 for image in images]
    off = (net.features(dark[0]) - wanted).abs().mean()
    adapt_batch_norm(net, dark)
    assert (net.features(dark[0]) - wanted).abs().mean() < 0.05 * off


def test_no_batch_norm():
    without = nn.Linear(2, 2)
    without.name = "vit_b_16"
    with pytest.raises(BloodcellError, match="vit_b_16 has no batch norm; use adapt=none"):
        adapt_batch_norm(without, batches())
