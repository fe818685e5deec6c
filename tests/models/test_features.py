"""Features that are kept: what is found again is what was computed, and nothing else is found."""

import errno
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from bloodcell.data.augment import Augment
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.readers import read_imagefolder
from bloodcell.data.samples import contents
from bloodcell.inference import features
from bloodcell.inference.backends import Backbone
from bloodcell.inference.feature_store import FeatureStore
from bloodcell.inference.features import Extractor, View, in_memory, probabilities_of
from bloodcell.inference.tta import symmetries
from bloodcell.models.net import Net
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.model import AugmentConfig, ModelConfig

NAMES = ["a|1|1", "b|2|2", 'ü, "c"|3|3']
VALUES = torch.tensor([[1.5, -2.0, 3e-8], [0.1, 0.2, 0.3], [7.0, 8.0, 9.0]])


def make_net(pool="avg", seed=0, mean=0.5):
    torch.manual_seed(seed)
    head = {"pool": pool, "hidden": 8, "dropout": 0.5}
    model = {
        "name": "mobilenet_v2", "library": "torchvision", "weights": None, "width": 0.25, "image_size": 32,
        "mean": [mean] * 3, "std": [0.25] * 3, "head": head,
    }  # fmt: skip
    return Net(ModelConfig.of(model), 4)


def extractor(net, root=None, size=32, backend="eager", precision="float32", preprocessing=None):
    preprocessing = preprocessing or Preprocessing(size)
    return Extractor(net, preprocessing, Backbone(net, preprocessing.image_size, backend, precision), root, workers=0)


def predicted(extractor, samples, tta="none"):
    """Return the probabilities of each symmetry, (symmetries, N, classes), and the words on the cells."""
    rows, cells = extractor.rows(samples, symmetries(tta))
    return np.stack([probabilities_of(extractor.net, one) for one in rows]), cells


def kept(store):
    """Return the names whose features a store gives away."""
    names = list(store.place_of)
    return {name for name, place in zip(names, store.places(names), strict=True) if place >= 0}


def get(store, names):
    return store.rows(store.places(names))[:]


@pytest.fixture
def samples(class_folders):
    return read_imagefolder(str(class_folders({"a": 4, "b": 3})))


@pytest.fixture
def folder(tmp_path):
    FeatureStore(tmp_path / "store").add(NAMES, VALUES.numpy())
    return tmp_path / "store"


def test_round_trip_is_bit_for_bit_in_any_order(folder):
    store = FeatureStore(folder)
    assert kept(store) == set(NAMES)
    assert torch.equal(get(store, NAMES[::-1]), VALUES.flip(0))
    assert get(store, NAMES).dtype == torch.float32
    store.add(["d|4|4"], VALUES[:1].numpy())
    assert torch.equal(get(FeatureStore(folder), ["d|4|4", NAMES[2]]), VALUES[[0, 2]])


def test_an_absent_store_is_empty(tmp_path):
    assert FeatureStore(tmp_path / "gone").place_of == {}


def test_no_flipped_byte_of_the_values_or_their_header_is_believed(folder):
    """Of 128 bytes of header and 36 of values; padding may change, the values may not."""
    (file,) = folder.glob("*.npy")
    whole = file.read_bytes()
    for position in range(len(whole)):
        for bit in (1 << k for k in range(8)):  # of "<f4", one makes ">f4"
            file.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
            store = FeatureStore(folder)
            assert not kept(store) or torch.equal(get(store, NAMES), VALUES), (position, bit)
    file.write_bytes(whole)
    assert len(kept(FeatureStore(folder))) == 3


@pytest.mark.parametrize("length", [0, 5, 100, 130, 163])
def test_a_truncated_chunk_counts_as_not_there(folder, length):
    (file,) = folder.glob("*.npy")
    file.write_bytes(file.read_bytes()[:length])
    assert kept(FeatureStore(folder)) == set()


@pytest.mark.parametrize(
    "content", ["", "{", "null", "[1]", "{}", '{"files": ["a"], "crc32": 0}', '{"files": 3, "crc32": 0}']
)
def test_a_damaged_index_counts_as_not_there(folder, content):
    (index,) = folder.glob("*.json")
    index.write_text(content)
    assert kept(FeatureStore(folder)) == set()


def test_an_index_of_other_files_or_a_missing_chunk(folder):
    (index,) = folder.glob("*.json")
    described = json.loads(index.read_text())
    index.write_text(json.dumps({**described, "files": described["files"][:2]}))
    assert kept(FeatureStore(folder)) == set()
    index.write_text(json.dumps(described))
    assert len(kept(FeatureStore(folder))) == 3
    next(folder.glob("*.npy")).unlink()
    assert kept(FeatureStore(folder)) == set()


def test_two_stores_that_are_written_at_once(tmp_path):
    def write(name):
        store = FeatureStore(tmp_path)
        for i in range(25):
            store.add([f"{name}{i}", f"same{i}"], np.full((2, 4), float(i)))

    threads = [threading.Thread(target=write, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore(tmp_path)
    assert kept(store) == {f"{name}{i}" for name in ("x", "y", "same") for i in range(25)}
    assert get(store, [f"y{i}" for i in range(25)])[:, 0].tolist() == list(range(25))
    assert {file.suffix for file in tmp_path.iterdir()} == {".npy", ".json"}


def test_the_key_is_of_all_that_a_feature_depends_on(tmp_path):
    def key(net, **options):
        return extractor(net, tmp_path, **options).store().folder.name

    keys = {
        key(make_net()),
        key(make_net(seed=1)),
        key(make_net(mean=0.4)),
        key(make_net(pool="max")),
        key(make_net(), size=48),
        key(make_net(), precision="bf16"),
        extractor(make_net(), tmp_path, backend="onnx").store().folder.name,
    }
    assert len(keys) == 7
    assert key(make_net()) in keys
    net = make_net()
    torch.nn.init.zeros_(net.head.logits.weight)
    assert key(net) in keys  # the head is no part of it
    next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)).running_mean += 1
    assert key(net) not in keys


def test_kept_features_are_the_computed_ones(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "GROUP", 3)
    net, pre = make_net(), Preprocessing(32)
    told = []
    plain = extractor(net).features(samples, lambda done, of: told.append((done, of)))
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert plain.shape == (7, 1280)
    images = torch.stack([pre(file) for file in samples.files()])
    with torch.inference_mode():
        torch.testing.assert_close(plain, net.eval().features(images))
    first = extractor(net, tmp_path).features(samples)
    again = extractor(net, tmp_path).features(samples)
    assert torch.equal(first[:], plain)
    assert torch.equal(again[:], plain)


def test_only_what_is_new_or_changed_is_computed(samples, tmp_path, monkeypatch, write_image):
    net = make_net()
    part = type(samples)(samples.table.iloc[::2].reset_index(drop=True), samples.root)
    before = extractor(net, tmp_path).features(part)[:]
    read, decode = [], features.decode
    monkeypatch.setattr(features, "decode", lambda files, *rest: (read.extend(files), decode(files, *rest))[1])
    both = extractor(net, tmp_path).features(samples)[:]
    assert [file.rpartition("/")[2] for file in read] == ["1.png", "3.png", "1.png"]
    torch.testing.assert_close(both[::2], before)
    read.clear()
    write_image(samples.files()[0], size=(30, 30), seed=99)
    changed = extractor(net, tmp_path).features(samples)[:]
    assert read == samples.paths()[:1]
    assert not torch.allclose(changed[0], both[0])
    assert torch.equal(changed[1:], both[1:])


def test_another_head_split_or_seed_computes_nothing(samples, tmp_path, monkeypatch):
    extractor(make_net(), tmp_path).features(samples)
    monkeypatch.setattr(features, "decode", lambda *_: pytest.fail("computed again"))
    other = make_net()
    other.head = torch.nn.Linear(1280, 7)
    shuffled = type(samples)(samples.table.iloc[::-1].assign(split="val"), samples.root)
    assert extractor(other, tmp_path).features(shuffled).shape == (7, 1280)


def test_a_damaged_chunk_is_computed_again(samples, tmp_path):
    net = make_net()
    expected = extractor(net, tmp_path).features(samples)[:]
    (file,) = tmp_path.glob("*/*.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    again = extractor(net, tmp_path)
    assert not set(contents(samples)) & kept(again.store())
    assert torch.equal(again.features(samples)[:], expected)


def test_an_interruption_loses_a_chunk_at_most(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 3)
    monkeypatch.setattr(features, "GROUP", 1)

    def interrupt(done, _):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extractor(make_net(), tmp_path).features(samples, interrupt)
    assert len(kept(extractor(make_net(), tmp_path).store())) == 3


@pytest.mark.slow
def test_a_kill_while_a_chunk_is_written_leaves_nothing_that_is_believed(samples, tmp_path):
    """The process dies at each of its writes in turn; what follows computes the same features."""
    net = make_net()
    expected = extractor(net).features(samples)
    for dies_at in range(1, 12):
        code = KILLED.format(root=str(samples.root), store=str(tmp_path / str(dies_at)), dies_at=dies_at)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, -9), done.stderr
        assert torch.equal(extractor(net, tmp_path / str(dies_at)).features(samples)[:], expected), dies_at
        if done.returncode == 0:
            assert dies_at > 3
            return
    pytest.fail("the process never lived to its end")


KILLED = """
import os, signal
import numpy as np
from pathlib import Path
from bloodcell.data.readers import read_imagefolder
from bloodcell.runtime.errors import BloodcellError
from bloodcell.inference import features
from tests.models.test_features import extractor, make_net
calls = 0
def counted(event, arguments):
    global calls
    writes = event == "os.rename" or (event == "open" and "w" in str(arguments[1]))
    if writes and "{store}" in str(arguments[0]):
        calls += 1
        if calls == {dies_at}:
            os.kill(os.getpid(), signal.SIGKILL)
features.CHUNK = 3
import sys
sys.addaudithook(counted)
extractor(make_net(), Path("{store}")).features(read_imagefolder("{root}"))
"""


def test_a_full_disk_is_one_clear_line_and_leaves_no_half_chunk(samples, tmp_path, monkeypatch):
    from bloodcell.runtime.user_errors import user_message

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/there")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(OSError, match="No space left") as caught:
        extractor(make_net(), tmp_path / "store").features(samples)
    assert "no space left on the disk" in user_message(caught.value)
    assert [file.name for file in (tmp_path / "store").rglob("*") if file.is_file()] == ["about.json"]


def test_a_root_that_can_be_no_folder_is_one_clear_line(samples, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BloodcellError, match=r"no folder can be made below .*file.*; choose another features\.root"):
        extractor(make_net(), tmp_path / "file" / "below").features(samples)


@pytest.mark.slow
def test_two_processes_at_once_give_what_one_gives(samples, tmp_path):
    code = (
        "from pathlib import Path; from bloodcell.data.readers import read_imagefolder\n"
        "from bloodcell.inference import features; from tests.models.test_features import extractor, make_net\n"
        f"features.CHUNK = 2; extractor(make_net(), Path({str(tmp_path)!r})).features("
        f"read_imagefolder({str(samples.root)!r}))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    expected = extractor(make_net()).features(samples)
    torch.testing.assert_close(extractor(make_net(), tmp_path).features(samples)[:], expected)


def test_the_net_is_left_in_the_modes_that_it_had(samples):
    """A head in evaluation mode would be trained without its dropout: Lightning keeps each module's mode."""
    net = make_net()
    net.backbone[0].eval()
    modes = {name: module.training for name, module in net.named_modules()}
    statistics = {key: value.clone() for key, value in net.state_dict().items()}
    extractor(net).features(samples)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(value, statistics[key]) for key, value in net.state_dict().items())


def test_features_can_be_trained_on(samples, tmp_path):
    net = make_net()
    for rows in (extractor(net).features(samples), extractor(net, tmp_path).features(samples)):
        net.head(in_memory(rows)).sum().backward()
        assert net.head.hidden.weight.grad is not None


def test_no_image_gives_no_feature(samples, tmp_path):
    net, none = make_net(), samples.of_split("test")
    assert extractor(net).features(none).shape == (0, 1280)
    assert extractor(net, tmp_path).features(none).shape == (0, 1280)


def test_rows_are_read_from_disk_where_memory_is_short(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 3)
    rows = extractor(make_net(), tmp_path).features(samples)
    assert torch.is_tensor(in_memory(rows))
    monkeypatch.setattr(features, "available_memory", lambda: 1000)
    assert in_memory(rows) is rows
    positions = torch.tensor([6, 0, 3, 3])
    assert torch.equal(rows[positions], rows[:][positions])
    assert torch.equal(probabilities := torch.from_numpy(probabilities_of(make_net(), rows)), probabilities)


def test_rows_of_several_readings_are_joined_in_their_order(samples, tmp_path, monkeypatch):
    """Each reading of the store numbers its chunks in another order."""
    monkeypatch.setattr(features, "CHUNK", 2)
    augment = Augment(AugmentConfig(rotation=180, brightness=0.2))
    extractor(make_net(), tmp_path).features(samples, None, View(augment, 2))  # its chunks stand among the later ones
    plain = extractor(make_net(), tmp_path).features(samples)
    views = [extractor(make_net(), tmp_path).features(samples, None, View(augment, number)) for number in range(3)]
    joined = plain.followed_by(views)
    assert joined.shape == (28, 1280)
    assert torch.equal(joined[:], torch.cat([part[:] for part in (plain, *views)]))


def test_views_are_fixed_differ_and_are_kept(samples, tmp_path, monkeypatch):
    augment = Augment(AugmentConfig(rotation=180, flip=True, brightness=0.2))
    views = [extractor(make_net(), tmp_path).features(samples, None, View(augment, n))[:] for n in range(3)]
    assert not torch.allclose(views[0], views[1])
    assert not torch.allclose(views[1], views[2])
    backwards = type(samples)(samples.table.iloc[::-1].reset_index(drop=True), samples.root)
    fresh = extractor(make_net(), tmp_path / "fresh").features(backwards, None, View(augment, 1))[:]
    torch.testing.assert_close(fresh.flip(0), views[1])  # neither neighbours nor order play a part
    monkeypatch.setattr(features, "decode", lambda *_: pytest.fail("computed again"))
    assert torch.equal(extractor(make_net(), tmp_path).features(samples, None, View(augment, 2))[:], views[2])


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
