"""The exported graph, before it is exported: it resizes as the pipeline does, calibrates, and knows its limits."""

import numpy as np
import pytest
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.exports.graph import Graph, resized
from bloodcell.metrics.reliability import tempered
from bloodcell.models.net import Net
from bloodcell.models.ood import Limits, score
from bloodcell.runtime.schema.model import ModelConfig

MODEL = {
    "name": "mobilenet_v2",
    "library": "torchvision",
    "weights": None,
    "width": 0.25,
    "image_size": 64,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "head": {"pool": "avg", "hidden": 0, "dropout": 0.0},
}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net(ModelConfig.of(MODEL), 3).eval()


@pytest.mark.parametrize("size", [16, 64, 128, 224])
@pytest.mark.parametrize(
    "shape", [(240, 320), (363, 360), (64, 64), (1, 1), (1, 700), (17, 1000), (480, 33), (224, 223)]
)
@pytest.mark.parametrize("levels", [256, 2])
def test_pictures_are_resized_bit_for_bit_as_in_the_pipeline(size, shape, levels):
    picture = np.random.default_rng(0).integers(0, levels, (*shape, 3), dtype=np.uint8) * (255 // (levels - 1))
    found = resized(torch.from_numpy(picture)[None], size)
    assert (found[0].numpy() == Preprocessing(size).pixels(picture)).all()


def test_probabilities_are_calibrated_and_logits_are_not(net, monkeypatch):
    monkeypatch.setattr(net, "temperature", 1.7)
    pictures = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)
    probabilities, logits, features = Graph(net, 64, None)(pictures)
    expected = tempered(torch.softmax(logits.double(), dim=1).numpy(), 1.7)
    np.testing.assert_allclose(probabilities.numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(net.head(features).detach().numpy(), logits.numpy(), rtol=0, atol=1e-6)
    assert probabilities.dtype == torch.float32


def test_what_is_unlike_is_told_as_by_the_limits(net):
    generator = np.random.default_rng(0)
    pictures = torch.from_numpy(generator.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8))
    features = Graph(net, 64, None)(pictures)[2].numpy()
    means = generator.normal(size=(3, net.width)).astype(np.float32)
    whitening = generator.normal(size=(net.width, 5)).astype(np.float32)
    scores = score(Limits(means, whitening, 0.0, {}), features)
    middle = float(np.median(scores)) * (1 + 1e-9)
    graph = Graph(net, 64, Limits(means, whitening, middle, {}))
    assert graph.outputs[-1] == "unlike"
    assert graph(pictures)[-1].tolist() == (scores > middle).tolist()
    assert 0 < (scores > middle).sum() < 9


def test_the_net_is_left_as_it_is(net):
    before = [parameter.requires_grad for parameter in net.parameters()]
    Graph(net, 64, None)
    assert [parameter.requires_grad for parameter in net.parameters()] == before
    assert all(before)
