"""Where a net looks: Grad-CAM, a map of the places that speak for a class.

Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization"
(https://arxiv.org/abs/1610.02391). The last feature map's channels are summed, each weighed by the mean gradient of the
class's score with respect to it; what is negative speaks against the class and becomes 0.

The score is the class's logit, before the softmax, whose gradient vanishes where the net is sure. Softmax ignores what
is added to all logits alike, so no loss says what it should be: it holds random initial values and the optimizer's
wandering, and speaks for no class. So the logit counts from the mean of all classes' logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bloodcell.models.net import Net
from bloodcell.runtime.errors import BloodcellError


class NoMapError(BloodcellError):
    """A net whose last features have no places in the image."""


def grad_cam(net: Net, images: Tensor, classes: Tensor) -> Tensor:
    """Return where a net sees what speaks for a class, in each of some images.

    Only the head is differentiated, down to the last map, so a frozen net does as well as any; the vision
    transformer's map is that of its patches, of which the head sees the mean. The net is left as it was: modes,
    gradients, statistics.

    Args:
        net: The net; evaluation mode is used.
        images: What the net takes: (N, 3, H, W), uint8 of 0 to 255 or float of 0 to 1; the net itself normalises.
        classes: The class of each, (N,), as its place among the logits.

    Returns:
        float32 (N, H, W) on the images' device: 1 where most speaks for the class, 0 where nothing does; all 0 where
        no place does.

    Raises:
        NoMapError: The net's last map has no places: patches in an unknown order, or a single place for all.
    """
    with _evaluated(net), torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        with torch.no_grad():
            features = net.feature_map(images.clone()).float()  # a copy: one made in inference mode has no gradient
        _require_places(net, features)
        features.requires_grad_()
        with torch.enable_grad():
            logits = net.head(net.pool(features))
        count = logits.shape[1]
        score = nn.functional.one_hot(classes.to(logits.device), count) - 1 / count  # of the logits, in each image
        (slopes,) = torch.autograd.grad(logits, features, score)
        weighed = (features.detach() * slopes.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
        large = nn.functional.interpolate(weighed.relu(), size=images.shape[2:], mode="bilinear")[:, 0]
        peaks = large.amax(dim=(1, 2), keepdim=True)
        return torch.where(peaks > 0, large / peaks, 0.0)


def _require_places(net: Net, features: Tensor) -> None:
    """Check that a map (N, C, h, w) has places side by side in both directions."""
    if min(features.shape[2:]) < 2:
        shape = " x ".join(map(str, features.shape[2:]))
        raise NoMapError(
            f"no Grad-CAM of {net.name}: its last features lie in {shape} places; it wants a convolutional net, or "
            "vit_b_16, with a larger data.image_size"
        )


@contextmanager
def _evaluated(net: nn.Module) -> Iterator[None]:
    """Put a net into evaluation mode, and each of its modules back into its own mode: not all need be in the same."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
