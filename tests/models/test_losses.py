"""The loss: its formula, its limits, and what it is composed with."""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from bloodcell.models.classifier import load_classifier
from bloodcell.models.losses import PartialCrossEntropy, balanced_weights, build_loss, robust_cross_entropy
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import LossConfig
from tests.models.conftest import build

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 4.0])


@pytest.fixture
def batch():
    """Return logits (12, 4), some extreme, and labels (12,)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=generator, dtype=torch.float64).float() * 3
    logits[0] = torch.tensor([60.0, -60.0, 0.0, 0.0])
    return logits, torch.arange(12) % 4


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_it_is_its_formula(batch, q):
    logits, labels = batch
    p = logits.double().softmax(1)[range(12), labels]
    expected = float(((1 - p**q) / q).mean())
    assert float(robust_cross_entropy(logits, labels, q)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_towards_zero_it_is_torchs_cross_entropy(batch, weight, smoothing):
    expected = torch.nn.functional.cross_entropy(*batch, weight, label_smoothing=smoothing)
    torch.testing.assert_close(robust_cross_entropy(*batch, 1e-6, weight, smoothing), expected, rtol=1e-3, atol=0)


def test_at_one_it_is_half_the_mean_absolute_error(batch):
    logits, labels = batch
    error = (torch.nn.functional.one_hot(labels, 4) - logits.softmax(1)).abs().sum(1).mean() / 2
    torch.testing.assert_close(robust_cross_entropy(logits, labels, 1.0), error)


def test_weights_and_smoothing_by_hand(batch):
    logits, labels = batch
    losses = (1 - logits.softmax(1) ** 0.7) / 0.7
    smooth = (WEIGHTS * losses).mean(dim=1)
    total = sum(0.8 * WEIGHTS[label] * losses[i, label] + 0.2 * smooth[i] for i, label in enumerate(labels))
    expected = total / WEIGHTS[labels].sum()
    torch.testing.assert_close(robust_cross_entropy(logits, labels, 0.7, WEIGHTS, 0.2), expected)


def test_a_doubted_label_pulls_less_the_larger_q():
    """The gradient of a label with probability p is p^q times that of cross-entropy."""
    logits, label = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([1])
    p = float(logits.softmax(1)[0, 1])
    (plain,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits.requires_grad_(), label), logits)
    for q in (0.3, 0.7, 1.0):
        (robust,) = torch.autograd.grad(robust_cross_entropy(logits, label, q), logits)
        torch.testing.assert_close(robust, p**q * plain)


def test_extreme_logits_have_a_finite_loss_and_gradient():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    robust_cross_entropy(logits, torch.tensor([0, 0]), 0.7).backward()
    assert torch.isfinite(logits.grad).all()


def test_the_classifier_minimises_it():
    classifier = build(loss={"class_weights": [1.0, 2.0, 3.0, 4.0], "label_smoothing": 0.1, "robust": 0.7}).eval()
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    expected = robust_cross_entropy(classifier(images), labels, 0.7, WEIGHTS, 0.1)
    torch.testing.assert_close(classifier.training_step((images, labels), 0), expected)
    assert torch.equal(classifier.state_dict()["loss.weight"], WEIGHTS)


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_an_image_teaches_about_the_classes_of_its_set_alone(batch, weight):
    logits, labels = batch[0][1:].requires_grad_(), batch[1][1:] % 2
    of_two = torch.tensor([True, True, False, False]).expand(11, 4)
    loss = robust_cross_entropy(logits, labels, 0.0, weight, 0.1, of_two)
    own = None if weight is None else weight[:2]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[:, :2], labels, own, label_smoothing=0.1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert not gradient[:, 2:].any()
    robust = robust_cross_entropy(logits, labels, 0.7, weight, 0.1, of_two)
    torch.testing.assert_close(robust, robust_cross_entropy(logits[:, :2], labels, 0.7, own, 0.1))


def test_with_all_classes_it_is_torchs_cross_entropy(batch):
    expected = torch.nn.functional.cross_entropy(*batch, WEIGHTS, label_smoothing=0.1)
    torch.testing.assert_close(robust_cross_entropy(*batch, 0.0, WEIGHTS, 0.1), expected)


def test_the_classifier_knows_the_classes_of_a_batch():
    classifier = build(loss={"own_classes": True}).eval()
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    known = torch.tensor([[True, True, False, False]] * 2 + [[False, False, True, True]] * 2)
    pairs = torch.stack([classifier(images)[:2, :2], classifier(images)[2:, 2:]]).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(pairs, torch.tensor([0, 1, 0, 1]))
    torch.testing.assert_close(classifier.training_step((images, labels, known), 0), expected)


@pytest.mark.parametrize("robust", [-0.1, 1.5])
def test_a_robustness_that_is_none(robust):
    with pytest.raises(BloodcellError, match=rf"loss\.robust={robust}; give a number from 0 to 1"):
        build(loss={"robust": robust})


def test_zero_and_checkpoints_of_before_have_cross_entropy(fit, loader, tmp_path):
    config = LossConfig(class_weights=None, label_smoothing=0.0)
    assert type(build_loss(config, None)) is torch.nn.CrossEntropyLoss
    fit(build(), loader, epochs=1).save_checkpoint(tmp_path / "old.ckpt")
    assert "robust" not in torch.load(tmp_path / "old.ckpt", weights_only=True)["hyper_parameters"]["loss"]
    assert type(load_classifier(tmp_path / "old.ckpt").loss) is torch.nn.CrossEntropyLoss


def test_balanced_weights_are_scikit_learns():
    labels = [0] * 75 + [1] * 27 + [2] * 16 + [3] * 159
    expected = compute_class_weight("balanced", classes=np.arange(4), y=np.array(labels))
    assert balanced_weights([75, 27, 16, 159]) == pytest.approx(expected)
    assert math.isnan(balanced_weights([1, 0])[1])


def test_classes_without_labels_weigh_little_in_the_partial_loss():
    logits, labels = torch.tensor([[2.0, 1.0, 5.0], [0.5, 3.0, 5.0]]), torch.tensor([0, 1])
    loss = PartialCrossEntropy([True, True, False], 1e-6)(logits, labels)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[:, :2], labels), atol=1e-4, rtol=0)
    whole = PartialCrossEntropy([True, True, False], 1.0)(logits, labels)
    torch.testing.assert_close(whole, torch.nn.functional.cross_entropy(logits, labels))
