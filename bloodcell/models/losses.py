"""What training minimises."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bloodcell.runtime.schema.model import LossConfig


def build_loss(loss: LossConfig, class_weights: list[float] | None) -> nn.CrossEntropyLoss:
    """Build the loss of logits (N, classes) and labels (N,); class weights None: 1 for each class."""
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
    if loss.robust == 0 and not loss.own_classes:
        return nn.CrossEntropyLoss(weight=weight, label_smoothing=loss.label_smoothing)
    return RobustCrossEntropy(loss.robust, weight=weight, label_smoothing=loss.label_smoothing)


class RobustCrossEntropy(nn.CrossEntropyLoss):
    """`robust_cross_entropy` with q = `robust` as a module; the options are those of torch's cross-entropy."""

    def __init__(self, robust: float, **options: Any) -> None:
        super().__init__(**options)
        self.robust = robust

    def forward(self, input: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the mean loss of logits (N, classes), labels (N,), and the classes that each may have."""
        return robust_cross_entropy(input, target, self.robust, self.weight, self.label_smoothing, known)


class PartialCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy if only some classes have labels: it hardly teaches that the others never occur.

    It is logit adjustment (Menon et al. 2021, https://arxiv.org/abs/2007.07314) by the share `others` of their usual
    weight that the classes without labels have in the softmax.

    Args:
        labelled: Whether each class has labels, (classes,).
        others: Above 0, up to 1.
        options: Those of torch's cross-entropy.
    """

    offset: Tensor

    def __init__(self, labelled: list[bool], others: float, **options: Any) -> None:
        super().__init__(**options)
        offset = torch.tensor([0.0 if one else math.log(others) for one in labelled])
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (N, classes) and labels (N,)."""
        return super().forward(input + self.offset, target)


def robust_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    q: float,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
    known: Tensor | None = None,
) -> Tensor:
    """Return the mean generalised cross-entropy of Zhang and Sabuncu 2018 (https://arxiv.org/abs/1805.07836).

    The loss of a class with probability p is (1 - p^q) / q: for q = 0 cross-entropy, for q = 1 half of the mean
    absolute error. The larger q, the less an image counts if the net predicts another class: its label may be wrong.

    Args:
        logits: (N, classes).
        labels: (N,).
        q: 0 to 1.
        weight: Class weights (classes,), as in torch's cross-entropy; None: 1.
        smoothing: Label smoothing, as in torch's cross-entropy.
        known: The classes that each image may have, bool (N, classes), its label among them: the probabilities are over
            these, and nothing is learnt about the others; None: all.
    """
    known = torch.ones_like(logits, dtype=torch.bool) if known is None else known
    logs = logits.float().masked_fill(~known, -math.inf).log_softmax(dim=1)
    losses = (-torch.expm1(q * logs) / q if q else -logs).masked_fill(~known, 0.0)
    weight = losses.new_ones(losses.shape[1]) if weight is None else weight
    losses = losses * weight
    of_label, of_all = losses.gather(1, labels[:, None]).sum(), losses.sum(dim=1) / known.sum(dim=1)
    return ((1 - smoothing) * of_label + smoothing * of_all.sum()) / weight[labels].sum()


def balanced_weights(counts: list[int]) -> list[float]:
    """Return class weights inverse to the numbers of images, with mean 1 over the images (scikit-learn: balanced)."""
    return [sum(counts) / (len(counts) * count) if count else math.nan for count in counts]
