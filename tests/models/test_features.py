"""Features that are kept: what is found again is what was computed, and nothing else is found."""

import json
import threading

import numpy as np
import pytest
import torch

from bloodcell.data.readers import read_imagefolder
from bloodcell.data.samples import identities
from bloodcell.data.transforms import Preprocessing
from bloodcell.models import features
from bloodcell.models.features import FeatureStore, features_of, probabilities_of, store_for
from bloodcell.models.net import Net

NAMES = ["a|1|1", "b|2|2", 'ü, "c"|3|3']
VALUES = torch.tensor([[1.5, -2.0, 3e-8], [0.1, 0.2, 0.3], [7.0, 8.0, 9.0]])


def make_net(pool="avg", seed=0, mean=0.5):
    torch.manual_seed(seed)
    head = {"pool": pool, "hidden": 8, "dropout": 0.5}
    return Net(
        {"name": "mobilenet_v2", "library": "torchvision", "weights": None, "width": 0.25, "image_size": 32,
         "mean": [mean] * 3, "std": [0.25] * 3, "head": head}, 4,
    )  # fmt: skip


@pytest.fixture
def samples(class_folders):
    return read_imagefolder(str(class_folders({"a": 4, "b": 3})))


@pytest.fixture
def folder(tmp_path):
    FeatureStore(tmp_path / "store").add(NAMES, VALUES)
    return tmp_path / "store"


def test_round_trip_is_bit_for_bit_in_any_order(folder):
    store = FeatureStore(folder)
    assert set(store.where) == set(NAMES)
    assert torch.equal(store.get(NAMES[::-1]), VALUES.flip(0))
    assert store.get(NAMES).dtype == torch.float32
    store.add(["d|4|4"], VALUES[:1])
    assert torch.equal(FeatureStore(folder).get(["d|4|4", NAMES[2]]), VALUES[[0, 2]])


def test_an_absent_store_is_empty(tmp_path):
    assert FeatureStore(tmp_path / "gone").where == {}


def test_no_flipped_byte_of_the_values_or_their_header_is_believed(folder):
    """Of 128 bytes of header and 36 of values; padding may change, the values may not."""
    (file,) = folder.glob("*.npy")
    whole = file.read_bytes()
    for position in range(len(whole)):
        for bit in (1 << k for k in range(8)):  # of "<f4", one makes ">f4"
            file.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
            store = FeatureStore(folder)
            assert not store.where or torch.equal(store.get(NAMES), VALUES), (position, bit)
    file.write_bytes(whole)
    assert len(FeatureStore(folder).where) == 3


@pytest.mark.parametrize("kept", [0, 5, 100, 130, 163])
def test_a_truncated_chunk_counts_as_not_there(folder, kept):
    (file,) = folder.glob("*.npy")
    file.write_bytes(file.read_bytes()[:kept])
    assert FeatureStore(folder).where == {}


@pytest.mark.parametrize(
    "content", ["", "{", "null", "[1]", "{}", '{"files": ["a"], "crc32": 0}', '{"files": 3, "crc32": 0}']
)
def test_a_damaged_index_counts_as_not_there(folder, content):
    (index,) = folder.glob("*.json")
    index.write_text(content)
    assert FeatureStore(folder).where == {}


def test_an_index_of_other_files_or_a_missing_chunk(folder):
    (index,) = folder.glob("*.json")
    described = json.loads(index.read_text())
    index.write_text(json.dumps({**described, "files": described["files"][:2]}))
    assert FeatureStore(folder).where == {}
    index.write_text(json.dumps(described))
    assert len(FeatureStore(folder).where) == 3
    next(folder.glob("*.npy")).unlink()
    assert FeatureStore(folder).where == {}


def test_two_stores_that_are_written_at_once(tmp_path):
    def write(name):
        store = FeatureStore(tmp_path)
        for i in range(25):
            store.add([f"{name}{i}", f"same{i}"], torch.full((2, 4), float(i)))

    threads = [threading.Thread(target=write, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore(tmp_path)
    assert set(store.where) == {f"{name}{i}" for name in ("x", "y", "same") for i in range(25)}
    assert store.get([f"y{i}" for i in range(25)])[:, 0].tolist() == list(range(25))
    assert {file.suffix for file in tmp_path.iterdir()} == {".npy", ".json"}


def test_the_key_is_of_all_that_a_feature_depends_on(tmp_path):
    def key(net, size=32, pool="avg"):
        return store_for(tmp_path, net, Preprocessing(size), pool).folder.name

    keys = {
        key(make_net()),
        key(make_net(seed=1)),
        key(make_net(mean=0.4)),
        key(make_net(pool="max"), pool="max"),
        key(make_net(), size=48),
    }
    assert len(keys) == 5
    assert key(make_net()) in keys
    net = make_net()
    torch.nn.init.zeros_(net.head.logits.weight)
    assert key(net) in keys  # the head is no part of it
    next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)).running_mean += 1
    assert key(net) not in keys


def test_kept_features_are_the_computed_ones(samples, tmp_path):
    net, pre = make_net(), Preprocessing(32)
    told = []
    plain = features_of(net, samples, pre, batch_size=3, workers=0, progress=lambda done, of: told.append((done, of)))
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert plain.shape == (7, 1280)
    images = torch.stack([pre(file) for file in samples.files()])
    with torch.inference_mode():
        torch.testing.assert_close(plain, net.eval().features(images))
    first = features_of(net, samples, pre, store_for(tmp_path, net, pre, "avg"), batch_size=3, workers=0)
    again = features_of(net, samples, pre, store_for(tmp_path, net, pre, "avg"), batch_size=5, workers=0)
    assert torch.equal(first, plain)
    assert torch.equal(again, plain)


def test_only_what_is_new_or_changed_is_computed(samples, tmp_path, monkeypatch, write_image):
    net, pre = make_net(), Preprocessing(32)
    store = store_for(tmp_path, net, pre, "avg")
    part = type(samples)(samples.table.iloc[::2].reset_index(drop=True), samples.root)
    before = features_of(net, part, pre, store, workers=0)
    read, loader = [], features.image_loader
    monkeypatch.setattr(features, "image_loader", lambda files, *rest: (read.extend(files), loader(files, *rest))[1])
    both = features_of(net, samples, pre, store, workers=0)
    assert [file.name for file in read] == ["1.png", "3.png", "1.png"]
    assert torch.equal(both[::2], before)
    read.clear()
    write_image(samples.files()[0], size=(30, 30), seed=99)
    changed = features_of(net, samples, pre, store_for(tmp_path, net, pre, "avg"), workers=0)
    assert read == samples.files()[:1]
    assert not torch.equal(changed[0], both[0])
    assert torch.equal(changed[1:], both[1:])


def test_a_damaged_chunk_is_computed_again(samples, tmp_path):
    net, pre = make_net(), Preprocessing(32)
    expected = features_of(net, samples, pre, store_for(tmp_path, net, pre, "avg"), workers=0)
    (file,) = tmp_path.glob("*/*.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    store = store_for(tmp_path, net, pre, "avg")
    assert not set(identities(samples.files())) & set(store.where)
    assert torch.equal(features_of(net, samples, pre, store, workers=0), expected)


def test_an_interruption_loses_a_chunk_at_most(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 3)
    net, pre = make_net(), Preprocessing(32)

    def interrupt(done, _):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features_of(
            net, samples, pre, store_for(tmp_path, net, pre, "avg"), batch_size=1, workers=0, progress=interrupt
        )
    assert len(store_for(tmp_path, net, pre, "avg").where) == 3


def test_the_net_is_left_in_the_modes_that_it_had(samples):
    """A head in evaluation mode would be trained without its dropout: Lightning keeps each module's mode."""
    net = make_net()
    net.backbone[0].eval()
    modes = {name: module.training for name, module in net.named_modules()}
    statistics = {key: value.clone() for key, value in net.state_dict().items()}
    features_of(net, samples, Preprocessing(32), workers=0)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(value, statistics[key]) for key, value in net.state_dict().items())


def test_features_can_be_trained_on(samples):
    net = make_net()
    inputs = features_of(net, samples, Preprocessing(32), workers=0)
    net.head(inputs).sum().backward()
    assert net.head.hidden.weight.grad is not None


def test_no_image_gives_no_feature(samples, tmp_path):
    net, pre, none = make_net(), Preprocessing(32), samples.of_split("test")
    assert features_of(net, none, pre, workers=0).shape == (0, 1280)
    assert features_of(net, none, pre, store_for(tmp_path, net, pre, "avg"), workers=0).shape == (0, 1280)


def test_probabilities_are_exact_softmax_and_sum_to_one():
    net, inputs = make_net(), torch.randn(50, 1280) * 20
    probabilities = probabilities_of(net, inputs)
    assert probabilities.dtype == np.float64
    assert probabilities.shape == (50, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    with torch.inference_mode():
        logits = net.eval().head(inputs).double().numpy()
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_array_equal(probabilities_of(net, inputs), probabilities)  # no dropout
