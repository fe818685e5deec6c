"""Every backbone of the shipped configuration can be exported, in both formats."""

import numpy as np
import pytest
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.exported import onnx, torch_export
from bloodcell.inference.exported.graph import Graph
from bloodcell.inference.exported.loaded import opened
from bloodcell.inference.exported.metadata import About
from bloodcell.models.net import Net
from bloodcell.runtime.schema.model import ModelConfig

NETS = ("mobilenetv2", "resnet18", "resnet50", "efficientnet_b0", "densenet121", "convnext_tiny", "vit_b_16")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*NETS, "xception", "efficientnet_lite0"])
def test_both_files_answer_as_the_net(compose, tmp_path, name):
    from bloodcell.runtime.config import plain

    if name in ("xception", "efficientnet_lite0"):
        pytest.importorskip("timm")
    size = 224 if name == "vit_b_16" else 64
    model = plain(compose(f"model={name}", "model.weights=null", f"model.image_size={size}").model)
    torch.manual_seed(0)
    net = Net(ModelConfig.of(model), 3).eval()
    graph, about = Graph(net, size, None), About(["a", "b", "c"], 1.0, Preprocessing(size), name, ("", ""))
    images = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    pictures = torch.randint(0, 256, (2, size + 11, 50, 3), dtype=torch.uint8)
    for module, ending in ((onnx, ".onnx"), (torch_export, ".pt2")):
        file = tmp_path / f"x{ending}"
        file.write_bytes(module.written(graph, about))
        found = opened(file)
        with torch.inference_mode():
            wanted, of_pictures = graph(images), graph(pictures)
        np.testing.assert_allclose(found.fast(images.numpy())[0], wanted[1].numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.run(pictures.numpy())["logits"], of_pictures[1].numpy(), rtol=0, atol=1e-4)
