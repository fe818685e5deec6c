"""The forward pass: each backend gives the same features, and what is missing falls back in one line."""

import numpy as np
import pytest
import torch

from bloodcell.inference import backends
from bloodcell.inference.backends import Backbone
from bloodcell.runtime.errors import BloodcellError
from tests.models.test_features import make_net

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


def expected(net):
    with torch.inference_mode():
        return net.eval().features(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).numpy()


def run(engine):
    built = engine.forward()
    return np.concatenate([built.run(IMAGES[start : start + built.batch]) for start in range(0, 11, built.batch)])


@pytest.mark.parametrize(
    ("pool", "backend"),
    [("avg", "onnx"), ("avg", "eager"), ("max", "eager"), pytest.param("max", "onnx", marks=pytest.mark.slow)],
)
def test_backends_give_the_same_features(backend, pool):
    net = make_net(pool)
    found = run(Backbone(net, 32, backend))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(net), rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_compiled_code_gives_the_same_features(precision):
    net = make_net()
    engine = Backbone(net, 32, "compile", precision)
    found = run(engine)
    assert engine.backend == "compile"
    np.testing.assert_allclose(found, expected(net), rtol=0, atol=2e-5 if precision == "float32" else 0.05)


def test_bf16_is_near_and_not_equal():
    net = make_net()
    found = run(Backbone(net, 32, "eager", "bf16"))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected(net)).max() < 0.05


def test_what_is_missing_falls_back_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(backends.shutil, "which", lambda _: None)
    engine = Backbone(make_net(), 32, "compile")
    assert engine.backend == "eager"
    assert "there is no C++ compiler; eager PyTorch instead" in " ".join(capsys.readouterr().out.split())

    monkeypatch.setattr(backends, "_missing", lambda _: "onnxruntime is not installed")
    assert Backbone(make_net(), 32).backend == "eager"
    assert "onnxruntime is not installed" in " ".join(capsys.readouterr().out.split())


def test_a_net_that_cannot_be_exported_falls_back_to_a_store_of_its_own(monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(backends, "exported", refuse)
    engine = Backbone(make_net(), 32)
    assert "onnx" in engine.name
    np.testing.assert_allclose(run(engine), expected(engine.net), rtol=0, atol=2e-5)
    assert engine.name.startswith("eager cpu float32 torch")
    assert "onnx cannot take this net (no such operator)" in " ".join(capsys.readouterr().out.split())


def test_the_name_tells_device_precision_and_release():
    net = make_net()
    names = {Backbone(net, 32, b, p).name for b, p in (("onnx", "float32"), ("eager", "float32"), ("eager", "bf16"))}
    assert len(names) == 3
    assert any(name.startswith("onnx cpu float32 onnxruntime ") for name in names)


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("onnx", "bf16", r"features\.backend=onnx is for features\.precision=float32 on the CPU"),
    ],
)
def test_wrong_choices_are_named(backend, precision, message):
    with pytest.raises(BloodcellError, match=message):
        Backbone(make_net(), 32, backend, precision)


def test_strided_depthwise_convolutions_stay_in_float32_where_the_rest_is_bf16():
    net = make_net()
    strided = [module for module in net.modules() if type(module).__name__ == "StridedDepthwise"]
    assert len(strided) == 4  # of MobileNetV2
    seen = []
    strided[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        net.features(images).sum().backward()
    assert seen == [torch.float32]
    assert strided[0].weight.grad.abs().sum() > 0
