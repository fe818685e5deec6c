"""Backbones: a feature map from each, and weights that are the right ones or refused."""

import re
import urllib.error
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from bloodcell.models.backbones import TORCHVISION, build_backbone, state_digest
from bloodcell.models.weights import read_state
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import TrainConfig

#: name -> (image size, shape of the map, parameters without the classifier).
MAPS = {
    "mobilenet_v2": (64, (1280, 2, 2), 2_223_872),
    "resnet18": (64, (512, 2, 2), 11_176_512),
    "resnet50": (64, (2048, 2, 2), 23_508_032),
    "efficientnet_b0": (64, (1280, 2, 2), 4_007_548),
    "densenet121": (64, (1024, 2, 2), 6_953_856),
    "convnext_tiny": (64, (768, 2, 2), 27_818_592),
    "vit_b_16": (224, (768, 14, 14), 85_798_656),
}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and no weights from an earlier download."""

    def fail(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_name_gives_a_feature_map(name):
    size, shape, parameters = MAPS[name]
    backbone = build_backbone(name, image_size=size).eval()
    with torch.inference_mode():
        assert backbone(torch.rand(2, 3, size, size)).shape == (2, *shape)
    assert sum(p.numel() for p in backbone.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "classifier"), [("mobilenet_v2", "classifier"), ("resnet18", "fc"), ("densenet121", "classifier")]
)
def test_the_map_is_what_torchvision_pools(name, classifier):
    """Pooled and passed on to torchvision's own classifier, the map gives torchvision's own logits."""
    torch.manual_seed(0)
    net = get_model(name, weights=None).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected, last = net(images), getattr(net, classifier)
        torch.testing.assert_close(last(TORCHVISION[name][1](net)(images).mean((2, 3))), expected)


def test_vit_tokens_lie_where_their_patches_are():
    torch.manual_seed(0)
    net = get_model("vit_b_16", weights=None, image_size=48).eval()
    net.encoder.layers = torch.nn.Sequential()  # no attention: each token is its own patch alone
    images = torch.rand(1, 3, 48, 48)
    changed = images.clone()
    changed[:, :, 16:32, 32:48] += 1  # row 1, column 2
    backbone = TORCHVISION["vit_b_16"][1](net)
    with torch.inference_mode():
        moved = (backbone(images) - backbone(changed)).abs().amax(1)[0] > 1e-6
    assert moved.nonzero().tolist() == [[1, 2]]


def test_vit_at_another_size():
    with torch.inference_mode():
        assert build_backbone("vit_b_16", image_size=64).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 768, 4, 4)
    with pytest.raises(BloodcellError, match="squares of 16 pixels; image_size is 100"):
        build_backbone("vit_b_16", image_size=100)
    with pytest.raises(BloodcellError, match="has weights for 224 pixels; image_size is 64"):
        build_backbone("vit_b_16", weights="DEFAULT", image_size=64)


def test_width_narrows_mobilenet_and_nothing_else():
    narrow = build_backbone("mobilenet_v2", width=0.25)
    assert sum(p.numel() for p in narrow.parameters()) < 2_223_872 / 4
    for arguments in ({"name": "resnet18"}, {"name": "mobilenet_v2", "weights": "DEFAULT"}):
        with pytest.raises(
            BloodcellError, match=r"model\.width=0\.5 is for model=mobilenetv2 with model\.weights=null"
        ):
            build_backbone(**arguments, width=0.5)
    build_backbone("resnet18", width=1.0)


def test_unknown_names(compose):
    with pytest.raises(BloodcellError, match=r"model\.name=resnet19 is unknown; choose mobilenet_v2, resnet18, .*timm"):
        build_backbone("resnet19")
    with pytest.raises(BloodcellError, match=r"model\.library=keras; choose torchvision or timm"):
        typed(compose("model.library=keras"), TrainConfig)


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit_b_16"])
def test_default_weights_offline_name_both_ways_out(offline, name):
    with pytest.raises(BloodcellError) as raised:
        build_backbone(name, weights="DEFAULT")
    first, second = str(raised.value).splitlines()
    assert re.fullmatch(
        rf"the pretrained weights of {name} could not be downloaded \(.*Name or service not known.*\)", first
    )
    assert "model.weights=PATH" in second
    assert "model.weights=null finetune=full" in second


@pytest.fixture
def saved(tmp_path):
    """Save an untrained torchvision model's state: saved("resnet18") -> (path, state)."""

    def save(name, seed=1, wrap=None):
        torch.manual_seed(seed)
        state = get_model(name, weights=None).state_dict()
        torch.save({wrap: state} if wrap else state, tmp_path / f"{name}.pth")
        return str(tmp_path / f"{name}.pth"), state

    return save


@pytest.mark.parametrize("wrap", [None, "state_dict"])
def test_a_file_of_weights_is_loaded(saved, wrap):
    path, state = saved("mobilenet_v2", wrap=wrap)
    torch.manual_seed(2)
    loaded = build_backbone("mobilenet_v2", weights=path).state_dict()
    assert len(loaded) == 312
    assert all(torch.equal(value, state[f"features.{key}"]) for key, value in loaded.items())
    assert not torch.equal(build_backbone("mobilenet_v2").state_dict()["0.0.weight"], loaded["0.0.weight"])


def test_its_classifier_is_ignored_whatever_its_shape(saved, tmp_path):
    path, state = saved("mobilenet_v2")
    four = {**state, "classifier.1.weight": torch.zeros(4, 1280), "classifier.1.bias": torch.zeros(4)}
    without = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    for variant in (four, without):
        torch.save(variant, path)
        loaded = build_backbone("mobilenet_v2", weights=path).state_dict()
        assert torch.equal(loaded["18.0.weight"], state["features.18.0.weight"])


def test_files_of_before_batch_counters_are_loaded(saved):
    path, state = saved("resnet18")
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    assert torch.equal(build_backbone("resnet18", weights=path).conv1.weight, state["conv1.weight"])


def test_torchvisions_own_densenet_file_is_loaded(saved):
    """Its names are older than the code: densenet121-a639ec97.pth has `denselayer1.norm.1`."""
    path, state = saved("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, path)
    loaded = build_backbone("densenet121", weights=path).state_dict()
    assert torch.equal(
        loaded["0.denseblock4.denselayer16.conv2.weight"], state["features.denseblock4.denselayer16.conv2.weight"]
    )


@pytest.mark.parametrize(
    ("file", "model"), [("resnet18", "mobilenet_v2"), ("resnet50", "resnet18"), ("resnet18", "resnet50")]
)
def test_weights_of_another_architecture_are_refused(saved, file, model):
    path, _ = saved(file)
    with pytest.raises(
        BloodcellError, match=rf"model\.weights={re.escape(path)} is not a {model}: \d+ tensors do not fit, e\.g\."
    ):
        build_backbone(model, weights=path)


def test_a_missing_weight_or_shape_is_named(saved):
    path, state = saved("resnet18")
    del state["layer1.0.conv1.weight"]
    torch.save(state, path)
    with pytest.raises(BloodcellError, match=r"not a resnet18: 1 tensors do not fit, e\.g\. layer1\.0\.conv1\.weight"):
        build_backbone("resnet18", weights=path)


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_payload_is_refused_and_not_executed(tmp_path):
    torch.save({"x": Payload(tmp_path / "executed")}, tmp_path / "evil.pth")
    with pytest.raises(BloodcellError, match=r"evil\.pth is no file of weights that can be read safely"):
        build_backbone("resnet18", weights=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"a": 1}, "holds no state dict"),
        (None, "read safely"),
    ],
)
def test_files_that_hold_something_else(tmp_path, content, message):
    path = tmp_path / "w.pth"
    path.write_text("words") if content is None else torch.save(content, path)
    with pytest.raises(BloodcellError, match=message):
        read_state(path)
    with pytest.raises(
        BloodcellError, match=r"no weights file .*gone\.pth; give an existing one with model\.weights=PATH"
    ):
        read_state(tmp_path / "gone.pth")


def test_the_digest_is_of_every_parameter_and_buffer():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = state_digest(net)
    assert state_digest(net) == before
    net[1].running_mean += 1
    after = state_digest(net)
    assert after != before
    with torch.no_grad():
        net[0].weight[0, 0] += 1e-7 + net[0].weight[0, 0].abs() * 1e-6
    assert state_digest(net) not in (before, after)


class TestTimm:
    """Models of the extra `timm`."""

    @pytest.fixture(autouse=True)
    def timm(self):
        return pytest.importorskip("timm", reason="it comes with the extra timm")

    @pytest.mark.parametrize(("name", "size", "width"), [("xception", 299, 2048), ("efficientnet_lite0", 224, 1280)])
    def test_what_is_shipped_is_a_name_of_timm(self, compose, timm, name, size, width):
        model = compose(f"model={name}").model
        assert (model.library, model.image_size) == ("timm", size)
        assert timm.is_model(model.name)
        backbone = build_backbone(model.name, "timm").eval()
        with torch.inference_mode():
            assert backbone(torch.rand(1, 3, 96, 96)).shape == (1, width, 3, 3)
        assert timm.get_pretrained_cfg(model.name).mean == tuple(model.mean)

    @pytest.mark.parametrize(
        ("name", "size", "shape"),
        [
            ("efficientnet_lite0", 64, (1280, 2, 2)),
            ("vit_tiny_patch16_224", 224, (192, 196, 1)),  # without its class token
            ("swin_tiny_patch4_window7_224", 224, (768, 7, 7)),  # channels last in timm
        ],
    )
    def test_maps_tokens_and_channels_last_become_maps(self, name, size, shape):
        backbone = build_backbone(name, "timm").eval()
        with torch.inference_mode():
            assert backbone(torch.rand(2, 3, size, size)).shape == (2, *shape)

    def test_a_file_of_weights(self, timm, tmp_path):
        torch.manual_seed(1)
        state = timm.create_model("efficientnet_lite0").state_dict()
        torch.save(state, tmp_path / "w.pth")
        loaded = build_backbone("efficientnet_lite0", "timm", str(tmp_path / "w.pth"))
        assert torch.equal(loaded.net.conv_head.weight, state["conv_head.weight"])
        with pytest.raises(BloodcellError, match="is not a mobilenetv2_100"):
            build_backbone("mobilenetv2_100", "timm", str(tmp_path / "w.pth"))

    def test_an_unknown_name_has_its_likes_named(self):
        with pytest.raises(
            BloodcellError, match=r"efficientnet_lite00 is unknown to timm; did you mean .*efficientnet_lite0"
        ):
            build_backbone("efficientnet_lite00", "timm")
        with pytest.raises(BloodcellError, match=r"unknown to timm; timm\.list_models\(\) lists all"):
            build_backbone("~~~~", "timm")

    def test_default_weights_offline(self, timm, monkeypatch):
        def fail(*_, **__):
            raise OSError("We couldn't connect to 'https://huggingface.co'")

        monkeypatch.setattr(timm, "create_model", fail)
        with pytest.raises(
            BloodcellError, match=r"weights of efficientnet_lite0 could not be downloaded .*couldn't connect"
        ):
            build_backbone("efficientnet_lite0", "timm", "DEFAULT")

    def test_without_timm_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "timm", None)
        with pytest.raises(BloodcellError, match=r"needs timm: pip install 'bloodcell\[timm\]'"):
            build_backbone("efficientnet_lite0", "timm")
