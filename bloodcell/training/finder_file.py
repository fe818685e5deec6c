"""The file of the cell finder: written from a trained net, and read to train it further."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bloodcell.models.finder_net import FinderNet
from bloodcell.runtime.errors import BloodcellError


class _Exported(nn.Module):
    """Scores, (1, 1, h, w), and widths and heights in pixels, (1, 2, h, w)."""

    def __init__(self, net: FinderNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return them for an image, float32 (1, 3, H, W)."""
        out = self.net(image)
        return out[:, :1].sigmoid(), out[:, 1:].exp()


def export_finder(net: FinderNet, file: Path) -> None:
    """Write a net as an ONNX file for pictures of any size; its weights are stored in 16 bits."""
    any_size = {"image": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
    torch.onnx.export(
        _Exported(net).eval(), (torch.rand(1, 3, 312, 416),), file, dynamo=True, dynamic_shapes=any_size,
        input_names=["image"], output_names=["heat", "size"], external_data=False, verbose=False,
    )  # fmt: skip
    model = onnx.load(file)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # the exporter's notes, which hold paths of this machine
    _halve(model.graph)
    onnx.save(model, file)


def _halve(graph: onnx.GraphProto) -> None:
    """Store the weights of a graph in 16 bits, half the bytes; whatever runs it computes in 32 bits."""
    casts = []
    for weights in graph.initializer:
        if weights.data_type == TensorProto.FLOAT:
            name, values = weights.name, numpy_helper.to_array(weights)
            weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
            casts.append(helper.make_node("Cast", [weights.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def mix_finders(start: Path, trained: Path, share: float) -> None:
    """Replace a file's weights by their mean with those it was trained from; `share`, 0 to 1, is its own.

    It finds more at laboratories that neither has seen (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).
    """
    model, before = onnx.load(trained), {one.name: one for one in onnx.load(start).graph.initializer}
    for weights in model.graph.initializer:
        if weights.data_type == TensorProto.FLOAT16:
            old, new = (numpy_helper.to_array(one).astype(np.float32) for one in (before[weights.name], weights))
            mixed = (1 - share) * old + share * new
            weights.CopyFrom(numpy_helper.from_array(mixed.astype(np.float16), weights.name))
    onnx.save(model, trained)


def read_finder(file: Path, images: Tensor) -> FinderNet:
    """Return the net of a file that `export_finder` has written, ready to learn further.

    In the file, batch norm is folded into the convolutions. It gets the statistics of some images, float32
    (N, 3, H, W), and the weights with which the net says the same.

    Raises:
        BloodcellError: See `finder_weights`.
    """
    net, weights = FinderNet().eval(), finder_weights(file)
    before = ""  # the convolution before a norm
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.copy_(weights[f"{name}.weight"])
            if layer.bias is not None:
                layer.bias.data.copy_(weights[f"{name}.bias"])
            before = name
        elif isinstance(layer, nn.BatchNorm2d):
            _unfold(layer, weights[f"{before}.weight_bias"])
    with torch.no_grad():
        net(images)
    return net


def finder_weights(file: Path) -> dict[str, Tensor]:
    """Return the weights of a file that `export_finder` has written, by their names in the net.

    Raises:
        BloodcellError: The file is missing, or of another net.
    """
    try:
        kept = {one.name: numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer}
    except Exception as error:  # whatever the parser says
        raise BloodcellError(f"cannot read the finder {file}; give a .onnx file") from error
    weights = {
        name.removeprefix("net.").removesuffix("_16"): torch.tensor(values).float()
        for name, values in kept.items()
        if name.startswith("net.")
    }
    wanted = {f"{name}.weight": one.weight for name, one in FinderNet().named_modules() if isinstance(one, nn.Conv2d)}
    if any(name not in weights or weights[name].shape != one.shape for name, one in wanted.items()):
        raise BloodcellError(f"{file} is no finder of this release in float32; give one that the training has written")
    return weights


def _unfold(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    """Let a norm add a bias, and take the statistics of the first batch that it sees: what it says is the same."""

    def measure(layer: nn.Module, given: tuple[Tensor]) -> None:
        mean, variance = given[0].mean((0, 2, 3)), given[0].var((0, 2, 3))
        norm.running_mean, norm.running_var = mean.clone(), variance.clone()
        norm.weight.data.copy_((variance + norm.eps).sqrt())
        norm.bias.data.copy_(bias + mean)
        handle.remove()

    handle = norm.register_forward_pre_hook(measure)
