"""The graph in TensorBoard is traced once for each architecture: what TorchScript traced, it never forgets."""

import torch

from bloodcell.callbacks import tensorboard
from bloodcell.callbacks.tensorboard import graph_of


def net(width):
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width)).eval()


def test_the_graph_of_an_architecture_is_traced_once(monkeypatch):
    monkeypatch.setattr(tensorboard, "_GRAPHS", {})
    images = torch.zeros(1, 3, 8, 8)
    first = graph_of(net(4), images)
    assert graph_of(net(4), images) is first
    other = graph_of(net(5), images)
    assert other is not first
    assert graph_of(net(4), torch.zeros(1, 3, 9, 9)) is not first
    assert any("_convolution" in node.op for node in first[0].node)


def test_tracing_leaves_the_net_as_it_was(monkeypatch):
    monkeypatch.setattr(tensorboard, "_GRAPHS", {})
    given = net(4)
    graph_of(given, torch.zeros(1, 3, 8, 8))
    assert not any(module.training for module in given.modules())
