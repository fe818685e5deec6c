"""Blocks of a backbone: each parameter in exactly one, in the order of the forward pass."""

import pytest
import torch
from torch import nn

from bloodcell.models.backbones import TORCHVISION, build_backbone
from bloodcell.models.blocks import blocks_of
from bloodcell.runtime.config import config_dir

#: name -> (number of blocks, name of the topmost).
BLOCKS = {
    "mobilenet_v2": (19, "18"),
    "resnet18": (6, "layer4.1"),
    "resnet50": (7, "layer4.2"),
    "efficientnet_b0": (12, "8"),
    "densenet121": (8, "0.denseblock4"),
    "convnext_tiny": (10, "7.2"),
    "vit_b_16": (13, "vit.encoder.layers.encoder_layer_11"),
    "legacy_xception": (16, "net.conv4"),
    "tf_efficientnet_lite0": (9, "net.conv_head"),
}
#: Those of timm, and the options that name them.
TIMM = {"legacy_xception": "xception", "tf_efficientnet_lite0": "efficientnet_lite0"}


def test_every_shipped_model_is_known_here():
    shipped = {file.stem for file in (config_dir() / "model").glob("*.yaml")} - {"base", "timm", *TIMM.values()}
    assert {name.replace("_", "") for name in shipped} == {name.replace("_", "") for name in TORCHVISION}
    assert set(BLOCKS) == {*TORCHVISION, *TIMM}


@pytest.mark.parametrize("name", BLOCKS)
def test_each_parameter_lies_in_exactly_one_block(name):
    library = "timm" if name in TIMM else "torchvision"
    if library == "timm":
        pytest.importorskip("timm", reason="it comes with the extra timm")
    backbone = build_backbone(name, library)
    blocks = blocks_of(backbone)
    assert (len(blocks), blocks[-1].name) == BLOCKS[name]
    inside = [id(parameter) for block in blocks for parameter in block.parameters]
    assert sorted(inside) == sorted(map(id, backbone.parameters()))
    assert all(any(parameter.ndim > 1 for parameter in block.parameters) for block in blocks)
    modules = [id(each) for block in blocks for module in block.modules for each in module.modules()]
    assert len(modules) == len(set(modules))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "densenet121"])
def test_blocks_follow_the_forward_pass(name):
    backbone, order = build_backbone(name).eval(), []
    blocks = blocks_of(backbone)
    for number, block in enumerate(blocks):
        for module in block.modules:
            module.register_forward_hook(lambda *_, number=number: order.append(number))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 64))
    assert order == sorted(order)
    assert set(order) == set(range(len(blocks)))


def test_mobilenets_blocks_are_its_19_children():
    features = build_backbone("mobilenet_v2")
    assert [block.modules for block in blocks_of(features)] == [[child] for child in features]


def test_what_lies_in_no_child_belongs_to_the_lowest_block():
    backbone = build_backbone("vit_b_16")
    lowest = set(map(id, blocks_of(backbone)[0].parameters))
    assert {id(backbone.vit.class_token), id(backbone.vit.encoder.pos_embedding)} <= lowest


def test_norms_and_activations_belong_to_the_block_below():
    resnet = build_backbone("resnet18")
    assert blocks_of(resnet)[0].modules == [resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool]
    densenet = build_backbone("densenet121")
    assert blocks_of(densenet)[-1].modules == [densenet[0].denseblock4, densenet[0].norm5, densenet[1]]


def test_a_shared_parameter_is_counted_once():
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    net[3].weight = net[0].weight
    blocks = blocks_of(net)
    assert sum(parameter is net[0].weight for block in blocks for parameter in block.parameters) == 1
