"""The net: normalisation, pooling and head."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from bloodcell.models.net import Net, blur_matrix, build_head
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import ModelConfig

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def model(**changes):
    head = {"pool": "avg", "hidden": 8, "dropout": 0.0} | changes.pop("head", {})
    plain = {"name": "mobilenet_v2", "library": "torchvision", "weights": None, "width": 0.25, "image_size": 32}
    return {**plain, "mean": MEAN, "std": STD, "head": head, **changes}


def test_logits_and_width():
    net = Net(ModelConfig.of(model()), 5).eval()
    assert net.width == 1280  # MobileNetV2 never narrows its last layer
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert net.features(torch.zeros(2, 3, 32, 32)).shape == (2, 1280)


def test_building_moves_no_statistic_and_leaves_training_mode():
    net = Net(ModelConfig.of(model()), 5)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all(module.num_batches_tracked == 0 and (module.running_mean == 0).all() for module in norms)
    assert all(module.training for module in net.modules())


def test_bytes_and_floats_are_the_same_images():
    net = Net(ModelConfig.of(model()), 5).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(net(images), net(images.float() / 255))


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_features_are_the_pooled_map_of_normalised_images(pool):
    net = Net(ModelConfig.of(model(head={"pool": pool}, image_size=64)), 5).eval()
    images = torch.rand(2, 3, 64, 64)
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    fmap = net.backbone(normalised)
    assert fmap.shape[2:] == (2, 2)
    torch.testing.assert_close(net.features(images), fmap.mean((2, 3)) if pool == "avg" else fmap.amax((2, 3)))
    torch.testing.assert_close(net(images), net.head(net.features(images)))


def test_a_blur_is_that_of_scipy():
    images = torch.rand(2, 3, 32, 32)
    matrix = blur_matrix(32, 1.3)
    expected = gaussian_filter(images.numpy(), (0, 0, 1.3, 1.3), mode="mirror", radius=4)
    torch.testing.assert_close(matrix @ images @ matrix.T, torch.from_numpy(expected))
    torch.testing.assert_close(blur_matrix(32, 3.2).sum(dim=1), torch.ones(32))


def test_only_a_net_that_does_not_learn_sees_blurred_images():
    net = Net(ModelConfig.of(model(blur=0.05)), 5).eval()
    net.backbone = torch.nn.Identity()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    softened = torch.from_numpy(gaussian_filter(images.numpy() / 255, (0, 0, 1.6, 1.6), mode="mirror", radius=5))
    torch.testing.assert_close(net.feature_map(images), (softened.float() - net.mean) / net.std)
    net.train()
    torch.testing.assert_close(net.feature_map(images), (images / 255 - net.mean) / net.std)


def test_a_blur_that_is_none():
    with pytest.raises(BloodcellError, match=r"model\.blur=0\.2; give a share of the image's side from 0 to 0\.1"):
        ModelConfig.of(model(blur=0.2))


def test_the_head_is_what_its_numbers_say():
    head = build_head(1280, 4, 256, 0.2)
    assert list(dict(head.named_children())) == ["hidden", "relu", "dropout", "logits"]
    assert sum(p.numel() for p in head.parameters()) == 1280 * 256 + 256 + 256 * 4 + 4 == 328_964
    assert head.dropout.p == 0.2
    linear = build_head(1280, 4, 0, 0.0)
    assert list(dict(linear.named_children())) == ["dropout", "logits"]
    assert sum(p.numel() for p in linear.parameters()) == 1280 * 4 + 4


@pytest.mark.parametrize(("hidden", "dropout"), [(-1, 0.0), (8, 1.0), (8, -0.1)])
def test_a_senseless_head(hidden, dropout):
    with pytest.raises(BloodcellError, match=rf"model\.head: hidden={hidden}, dropout={dropout};"):
        Net(ModelConfig.of(model(head={"pool": "avg", "hidden": hidden, "dropout": dropout})), 2)


def test_an_unknown_pooling():
    with pytest.raises(BloodcellError, match=r"model\.head\.pool=mean; choose avg or max"):
        Net(ModelConfig.of(model(head={"pool": "mean"})), 2)


def test_images_too_small_for_the_model():
    with pytest.raises(BloodcellError, match=r"does not take images of model\.image_size=16: .*too small"):
        Net(ModelConfig.of(model(name="densenet121", width=None, image_size=16)), 2)


def test_normalisation_is_no_part_of_the_state():
    state = Net(ModelConfig.of(model()), 2).state_dict()
    assert {key.partition(".")[0] for key in state} == {"backbone", "head"}
