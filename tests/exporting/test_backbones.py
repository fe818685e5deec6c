"""Every backbone of the shipped configuration can be exported, in both formats."""

import numpy as np
import pytest
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.exports.formats import FORMATS
from bloodcell.exports.graph import Graph
from bloodcell.inference.exported.metadata import About
from bloodcell.inference.exported.onnx_engine import load_exported
from bloodcell.models.net import Net
from bloodcell.runtime.schema.model import ModelConfig

NETS = ("mobilenetv2", "resnet18", "resnet50", "efficientnet_b0", "densenet121", "convnext_tiny", "vit_b_16")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*NETS, "xception", "efficientnet_lite0"])
def test_both_files_answer_as_the_net(compose, tmp_path, name):
    from bloodcell.runtime.config import plain

    if name in ("xception", "efficientnet_lite0"):
        pytest.importorskip("timm", reason="it comes with the extra timm")
    size = 224 if name == "vit_b_16" else 64
    model = plain(compose(f"model={name}", "model.weights=null", f"model.image_size={size}").model)
    torch.manual_seed(0)
    net = Net(ModelConfig.of(model), 3).eval()
    graph, about = Graph(net, size, None), About(["a", "b", "c"], 1.0, Preprocessing(size), name, ("", ""))
    images = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    pictures = torch.randint(0, 256, (2, size + 11, 50, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = [graph(one)[0].numpy() for one in (images, pictures)]
    for form in FORMATS.values():
        run = form.run(form.write(graph, about))
        for given, probabilities in zip((images, pictures), expected, strict=True):
            np.testing.assert_allclose(run(given.numpy()), probabilities, rtol=0, atol=1e-4)
    file = tmp_path / "x.onnx"
    file.write_bytes(FORMATS["onnx"].write(graph, about))
    np.testing.assert_allclose(
        load_exported(file).predict(images.numpy()).probabilities, expected[0], rtol=0, atol=1e-4
    )
