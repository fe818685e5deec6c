"""Backbones: image classifiers of torchvision and timm without their classifier."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bloodcell.models.weights import fit_state, load_state, run_backbone
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError


class TokenMap(nn.Module):
    """The patch tokens of torchvision's VisionTransformer as a feature map; its heads are not used."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit
        self.vit.heads = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, 768, H / 16, W / 16) features of (N, 3, H, W) images."""
        patches = self.vit._process_input(images)
        first = self.vit.class_token.expand(patches.shape[0], -1, -1)  # len() is no symbol
        tokens = self.vit.encoder(torch.cat([first, patches], dim=1))[:, 1:]
        side = self.vit.image_size // self.vit.patch_size
        features: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side))
        return features


class TimmMap(nn.Module):
    """The features of a timm model without pooling and classifier, as a map."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, C, h, w) features of (N, 3, H, W) images; tokens (N, L, C) become (N, C, L, 1)."""
        features: Tensor = self.net(images)
        if features.ndim == 3:  # the class token and its like come first
            tokens = features[:, getattr(self.net, "num_prefix_tokens", 0) :]
            return tokens.transpose(1, 2).unsqueeze(3)
        widths = {self.net.num_features, getattr(self.net, "head_hidden_size", self.net.num_features)}
        if features.shape[1] not in widths and features.shape[-1] in widths:  # Swin and others: (N, h, w, C)
            return features.permute(0, 3, 1, 2)
        return features


#: torchvision's name -> (prefix of the classifier's parameters, how to leave the classifier out).
TORCHVISION: dict[str, tuple[str, Callable[[Any], nn.Module]]] = {
    "mobilenet_v2": ("classifier.", lambda net: net.features),
    "resnet18": ("fc.", lambda net: _all_but_last(net, 2)),  # without pooling and classifier
    "resnet50": ("fc.", lambda net: _all_but_last(net, 2)),
    "efficientnet_b0": ("classifier.", lambda net: net.features),
    "densenet121": ("classifier.", lambda net: nn.Sequential(net.features, nn.ReLU())),
    "convnext_tiny": ("classifier.", lambda net: net.features),
    "vit_b_16": ("heads.", TokenMap),
}

_WIDEST = 4  # multiples of MobileNetV2's width; memory grows with its square


def _all_but_last(net: nn.Module, count: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(list(net.named_children())[:-count]))


def build_backbone(
    name: str,
    library: str = "torchvision",
    weights: str | None = None,
    width: float | None = None,
    image_size: int = 224,
) -> nn.Module:
    """Build a backbone: (N, 3, H, W) normalised images to an (N, C, h, w) feature map.

    Args:
        name: The library's name of the model.
        library: torchvision or timm.
        weights: DEFAULT: the library's download. None: random. Else the path of a state dict of the library's model, or
            of a run folder or checkpoint of this package; its classifier is ignored.
        width: MobileNetV2's width multiplier; other than 1 only without weights or with those of a run.
        image_size: Pixels; only the vision transformer depends on it.

    Raises:
        BloodcellError: The name is unknown; or the weights cannot be loaded, or belong to another architecture.
    """
    if (learned := run_backbone(weights)) is not None:
        backbone = build_backbone(name, library, None, width, image_size)
        fit_state(backbone, learned, str(weights), name)
        return backbone
    if library == "timm":
        return _build_timm(name, weights)
    if name not in TORCHVISION:
        raise BloodcellError(f"model.name={name} is unknown; choose {', '.join(TORCHVISION)}, or model.library=timm")
    prefix, strip = TORCHVISION[name]
    net = _torchvision_model(name, weights, width, image_size)
    if weights not in (None, "DEFAULT"):
        load_state(net, Path(str(weights)), name, ignore=prefix)
    return strip(net)


def _torchvision_model(name: str, weights: str | None, width: float | None, image_size: int) -> nn.Module:
    from torchvision.models import get_model

    arguments: dict[str, Any] = {}
    if width not in (None, 1, 1.0):
        if name != "mobilenet_v2" or weights is not None:
            raise BloodcellError(f"model.width={width} is for model=mobilenetv2 with model.weights=null")
        if not 0 < width <= _WIDEST:
            raise BloodcellError(f"model.width={width}; give a number above 0, up to {_WIDEST}")
        arguments["width_mult"] = width
    if name == "vit_b_16" and image_size % 16:
        raise BloodcellError(f"model=vit_b_16 cuts images into squares of 16 pixels; image_size is {image_size}")
    if name == "vit_b_16" and image_size != 224:
        if weights is not None:
            raise BloodcellError(f"model=vit_b_16 has weights for 224 pixels; image_size is {image_size}")
        arguments["image_size"] = image_size
    if name == "densenet121":
        arguments["memory_efficient"] = False
    if weights != "DEFAULT":
        backbone: nn.Module = get_model(name, weights=None, **arguments)
        return backbone
    return _downloaded(name, lambda: get_model(name, weights="DEFAULT", **arguments))


def _downloaded(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model with weights from the network, which the first of several processes downloads for all."""

    def built() -> nn.Module:
        try:
            return build()
        except Exception as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise BloodcellError(
                f"the pretrained weights of {name} could not be downloaded ({reason})\n"
                "give a weights file with model.weights=PATH, or train without with model.weights=null finetune=full"
            ) from error

    if distributed.here().size > 1:
        with torch.random.fork_rng(devices=[]):  # so that the random numbers stay those of one process
            distributed.once(lambda: bool(built()))
    return built()


def _build_timm(name: str, weights: str | None) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise BloodcellError("model.library=timm needs timm: pip install 'bloodcell[timm]'") from error
    if not timm.is_model(name):
        import difflib

        alike = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(alike)}?" if alike else "timm.list_models() lists all"
        raise BloodcellError(f"model.name={name} is unknown to timm; {hint}")
    if weights == "DEFAULT":
        net: Any = _downloaded(name, lambda: timm.create_model(name, pretrained=True))
    else:
        net = timm.create_model(name, pretrained=False)
    if weights not in (None, "DEFAULT"):
        classifier = net.default_cfg.get("classifier", "fc")
        prefix = classifier if isinstance(classifier, str) else classifier[0]
        load_state(net, Path(str(weights)), name, ignore=f"{prefix}.")
    net.reset_classifier(0, "")
    return TimmMap(net)


def state_digest(module: nn.Module) -> str:
    """Return 16 hexadecimal digits of the content of a module's parameters and buffers."""
    total = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
