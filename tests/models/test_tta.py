"""The symmetries of the square: they are what they say, and predictions are the mean over them."""

import numpy as np
import pytest
import torch

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.readers import read_imagefolder
from bloodcell.inference import features
from bloodcell.inference.tta import IDENTITY, SYMMETRIES, symmetries
from bloodcell.runtime.errors import BloodcellError
from tests.models.test_features import extractor, make_net, predicted

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8)


def calibrated(net):
    """Give a net without training the statistics of some noise, so that what it says depends on the image."""
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.train().features(images)
    return net.eval()


def shown(tta):
    return [symmetry(IMAGE, ["a.png"])[0] for symmetry in symmetries(tta)]


@pytest.fixture
def samples(class_folders):
    return read_imagefolder(str(class_folders({"a": 4, "b": 3})))


def test_flips_are_the_image_and_its_mirror_images():
    image = IMAGE[0]
    expected = {image.tobytes(), image[:, ::-1].tobytes(), image[::-1].tobytes(), image[::-1, ::-1].tobytes()}
    assert {one.tobytes() for one in shown("flips")} == expected
    assert [one.tobytes() for one in shown("none")] == [image.tobytes()]


def test_d4_is_closed_under_turning_and_mirroring():
    all_eight = {one.tobytes() for one in shown("d4")}
    assert len(all_eight) == 8
    for change in (np.rot90, np.fliplr, lambda one: one.swapaxes(0, 1)):
        assert {np.ascontiguousarray(change(one)).tobytes() for one in shown("d4")} == all_eight


@pytest.mark.parametrize("tta", SYMMETRIES)
def test_the_identity_is_first_and_names_are_of_one_symmetry(tta):
    names = [symmetry.name for symmetry in symmetries(tta)]
    assert symmetries(tta)[0] == IDENTITY
    assert names[0] == ""  # it is kept as the image's plain features
    assert len(set(names)) == len(names)


def test_an_unknown_choice_is_one_clear_line():
    with pytest.raises(BloodcellError, match="tta=rotate; choose none, flips or d4"):
        symmetries("rotate")


@pytest.mark.parametrize("keeps", [False, True])
def test_each_symmetry_is_judged_as_by_hand(samples, tmp_path, keeps):
    net, pre = calibrated(make_net()), Preprocessing(32)
    found, cells = predicted(extractor(net, tmp_path if keeps else None), samples, "d4")
    images = np.stack([pre.pixels(file) for file in samples.files()])
    turned = [np.rot90(side, turns, axes=(1, 2)) for turns in range(4) for side in (images, images[:, :, ::-1])]
    with torch.inference_mode():
        inputs = [torch.from_numpy(one.copy()).permute(0, 3, 1, 2) for one in turned]
        expected = [torch.softmax(net.eval()(one).double(), dim=1).numpy() for one in inputs]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    apart = [np.abs(one - other).max() for i, one in enumerate(found) for other in found[:i]]
    assert min(apart) > 1e-3
    assert found.shape == (8, 7, 4)
    assert cells == [""] * 7


def test_each_image_is_decoded_once_and_passes_eight_times(samples, monkeypatch):
    read, decode = [], features.decode
    monkeypatch.setattr(features, "decode", lambda files, *rest: (read.extend(files), decode(files, *rest))[1])
    passed, one = [], extractor(make_net())
    forward = one.backbone.forward()
    counted = type(forward)(forward.name, 1, 32, lambda images: (passed.append(len(images)), forward.run(images))[1])
    monkeypatch.setattr(one.backbone, "forward", lambda images=None: counted)
    predicted(one, samples, "d4")
    assert read == samples.paths()
    assert passed == [32, 24]  # in whole batches, whatever their symmetry


def test_symmetries_are_kept_and_what_is_there_is_not_computed_again(samples, tmp_path, monkeypatch):
    net = calibrated(make_net())
    plain, _ = predicted(extractor(net, tmp_path), samples)
    eight, _ = predicted(extractor(net, tmp_path), samples, "d4")
    np.testing.assert_array_equal(eight[:1], plain)
    store = extractor(net, tmp_path).store()
    assert len(store.place_of) == 8 * 7
    assert sum(len(np.load(chunk)) for chunk in store.chunks) == 8 * 7  # none is written twice
    monkeypatch.setattr(features, "decode", lambda *_: pytest.fail("computed again"))
    for tta, chosen in (("d4", eight), ("flips", eight[[0, 1, 4, 5]]), ("none", plain)):
        np.testing.assert_array_equal(predicted(extractor(net, tmp_path), samples, tta)[0], chosen)


def test_the_rest_is_computed_where_some_images_lack_some_symmetry(samples, tmp_path):
    net = calibrated(make_net())
    part = type(samples)(samples.table.iloc[::3].reset_index(drop=True), samples.root)
    predicted(extractor(net, tmp_path), part, "flips")
    np.testing.assert_allclose(
        predicted(extractor(net, tmp_path), samples, "d4")[0], predicted(extractor(net), samples, "d4")[0], atol=1e-5
    )


def test_no_image_has_no_prediction(samples, tmp_path):
    for root in (None, tmp_path):
        found, cells = predicted(extractor(make_net(), root), samples.of_split("test"), "d4")
        assert found.shape[:2] == (8, 0)
        assert cells == []
