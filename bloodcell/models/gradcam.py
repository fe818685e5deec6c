"""Grad-CAM: a map of the places in an image that speak for a class.

Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization"
(https://arxiv.org/abs/1610.02391). The channels of the last feature map are summed, each weighted by the mean gradient
of the class's score with respect to it; negative values speak against the class and become 0.

The score is the class's logit, as the gradient of the softmax vanishes if the net is sure. Training does not determine
a constant added to all logits, so the logit is taken relative to the mean of all classes' logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bloodcell.models.net import Net, evaluation_mode
from bloodcell.runtime.errors import BloodcellError


class NoMapError(BloodcellError):
    """A net whose last features have no places in the image, or are not finite."""


def grad_cam(net: Net, images: Tensor, classes: Tensor) -> Tensor:
    """Return a map of what speaks for a class in each image.

    Only the head is differentiated, so the net may be frozen; its modes, gradients and statistics stay.

    Args:
        net: The net; evaluation mode is used.
        images: (N, 3, H, W), uint8 of 0 to 255 or float of 0 to 1; the net itself normalises.
        classes: The class of each, (N,), as its place among the logits.

    Returns:
        float32 (N, H, W) on the images' device, 0 to 1 with a maximum of 1; all 0 if no place speaks for the class.

    Raises:
        NoMapError: The net's last map has no places (patches in an unknown order, or a single place for all), or its
            values are not finite.
    """
    with evaluation_mode(net), torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        with torch.no_grad():
            features = net.feature_map(images.clone()).float()  # a copy: one made in inference mode has no gradient
        if min(features.shape[2:]) < 2:
            shape = " x ".join(map(str, features.shape[2:]))
            raise NoMapError(
                f"no Grad-CAM of {net.name}: its last features lie in {shape} places; it wants a convolutional net, or "
                "vit_b_16, with a larger data.image_size"
            )
        features.requires_grad_()
        with torch.enable_grad():
            logits = net.head(net.pool(features))
        count = logits.shape[1]
        score = nn.functional.one_hot(classes.to(logits.device), count) - 1 / count  # weights of the logits
        (slopes,) = torch.autograd.grad(logits, features, score)
        weighed = (features.detach() * slopes.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
        large = nn.functional.interpolate(weighed.relu(), size=images.shape[2:], mode="bilinear")[:, 0]
        peaks = large.amax(dim=(1, 2), keepdim=True)
        if not torch.isfinite(peaks).all():
            raise NoMapError(f"no Grad-CAM of {net.name}: its values are not finite")
        return torch.where(peaks > 0, large / peaks, 0.0)
