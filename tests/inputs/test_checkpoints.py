"""Checkpoints, weights and run folders of strangers: no code of theirs runs, and what does not fit is refused."""

import io
import os
import pickle
import shutil
import struct
import zipfile

import pytest
import torch

import bloodcell
from bloodcell.runtime.errors import BloodcellError
from tests.inputs.two_faced import two_faced

pytestmark = [pytest.mark.inputs, pytest.mark.timeout(60, func_only=True)]


class Payload:
    """Runs a command where it is unpickled without care."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Built:
    """Calls anything where it is unpickled without care."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(name, content, compression=zipfile.ZIP_STORED):
    """Return the archive that torch.save would have made of a pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.writestr(f"{name}/data.pkl", content)
        archive.writestr(f"{name}/version", "3\n")
        archive.writestr(f"{name}/byteorder", "little")
    return made.getvalue()


def bomb():
    """Return an archive of some hundred kilobytes whose one tensor would be 400 MB."""
    whole = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": {}}, whole)
    made = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            large = entry.filename.endswith("data/0")
            new.writestr(entry.filename, b"\0" * 400_000_000 if large else old.read(entry))
    return made.getvalue()


def saved(content):
    """Return what torch.save writes."""
    made = io.BytesIO()
    torch.save(content, made)
    return made.getvalue()


#: What a file is -> its content; {mark} in it is where a payload would leave its mark.
FILES = {
    "empty": lambda _: b"",
    "text": lambda _: b"no checkpoint",
    "zero bytes": lambda _: b"\0" * 10_000,
    "a picture": lambda _: b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    "the first bytes of an archive": lambda _: b"PK\x03\x04 broken",
    "an archive of nothing": lambda _: b"PK\x05\x06" + b"\0" * 18,
    "a pickle that runs a command": lambda mark: pickle.dumps(Payload(f"touch {mark}")),
    "a pickle that runs a command, in torch's archive": lambda mark: saved({"state_dict": Payload(f"touch {mark}")}),
    "a pickle that runs a command, in a bare archive": lambda mark: zipped("a", pickle.dumps(Payload(f"touch {mark}"))),
    "a pickle that evaluates": lambda mark: saved(Built(eval, f"open({str(mark)!r}, 'w')")),
    "a pickle that imports": lambda mark: saved(Built(__import__, "antigravity")),
    "a pickle that opens a file": lambda mark: saved(Built(open, str(mark), "w")),
    "a pickle of an older protocol": lambda mark: pickle.dumps(Payload(f"touch {mark}"), protocol=0),
    "a pickle that never ends": lambda _: b"\x80\x04" + b"(" * 100_000,
    "a tensor": lambda _: saved(torch.zeros(3)),
    "a list": lambda _: saved([1, 2, 3]),
    "a state dict": lambda _: saved({"weight": torch.zeros(3)}),
    "an empty dictionary": lambda _: saved({}),
    "another program's checkpoint": lambda _: saved({"state_dict": {}, "hyper_parameters": {"lr": 1}}),
    "hyper-parameters that are none": lambda _: saved({"state_dict": {}, "hyper_parameters": 5}),
    "an archive that would inflate": lambda _: bomb(),
    "an archive that would inflate for torch alone": lambda _: two_faced(bomb(), zipped("a", b"")),
    "a tensor that claims more than there is": lambda _: saved(torch.zeros(4)).replace(
        struct.pack("<BBBB", 0x4B, 4, 0x74, 0x51), struct.pack("<BBBB", 0x4B, 200, 0x74, 0x51), 1
    ),
}


@pytest.fixture
def predict_refused(refused, write_image, tmp_path):
    def run(checkpoint, words):
        image = write_image(tmp_path / "a.png")
        refused(
            "checkpoints",
            words,
            "predict",
            f"checkpoint={checkpoint}",
            f"images={image}",
            f"output={tmp_path / 'o.csv'}",
        )
        assert not (tmp_path / "o.csv").exists()

    return run


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_checkpoint(kind, tmp_path, predict_refused, train_refused):
    file, mark = tmp_path / "some.ckpt", tmp_path / "mark"
    file.write_bytes(FILES[kind](mark))
    predict_refused(file, r"some\.ckpt.*(no checkpoint that can be read safely|not a checkpoint of bloodcell)")
    train_refused("weights", r"some\.ckpt", f"model.weights={file}", "model.width=1.0")
    assert not mark.exists()


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_checkpoint_that_is_cut_off(tenth, quick_run, tmp_path, predict_refused):
    whole = (quick_run / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "some.ckpt").write_bytes(whole[: len(whole) * tenth // 10])
    predict_refused(tmp_path / "some.ckpt", r"no checkpoint that can be read safely; it is damaged")


def _hparam(*keys, value):
    def change(checkpoint):
        node = checkpoint["hyper_parameters"]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


def _first_weight(value):
    def change(checkpoint):
        state = checkpoint["state_dict"]
        name = next(iter(state))
        state[name] = value(state[name]) if callable(value) else value

    return change


def _hidden(checkpoint, count):
    """Let a hidden layer have so many units, whose weights are one number."""
    state, number = checkpoint["state_dict"], torch.zeros(1)
    checkpoint["hyper_parameters"]["model"]["head"]["hidden"] = count
    width, classes = state["net.head.hidden.weight"].shape[1], len(state["net.head.logits.bias"])
    state["net.head.hidden.weight"] = number.expand(count, width)
    state["net.head.hidden.bias"] = number.expand(count)
    state["net.head.logits.weight"] = number.expand(classes, count)


def _laughs(one, times):
    for _ in range(times):
        one = [one] * 10
    return one


def _of_itself():
    one = []
    one.append(one)
    return one


#: What was changed in a good checkpoint -> how, and the words of the refusal.
CHANGES = {
    "images of a thousand million pixels a side": (
        _hparam("preprocessing", "image_size", value=10**9),
        "image_size=1000000000",
    ),
    "images of a thousand million pixels a side, for the net": (_hparam("model", "image_size", value=10**9), None),
    "images of no size": (_hparam("preprocessing", "image_size", value=0), "image_size=0"),
    "a crop that is none": (_hparam("preprocessing", "crop", value="os.system"), "crop=os.system"),
    "an argument that preprocessing has not": (_hparam("preprocessing", "command", value="x"), "unexpected keyword"),
    "a hidden layer of a thousand million": (
        _hparam("model", "head", "hidden", value=10**9),
        "hidden layer of 1000000000",
    ),
    "a net a thousand times as wide": (_hparam("model", "width", value=1000.0), r"model\.width=1000"),
    "an unknown net": (_hparam("model", "name", value="os.system"), "model.name=os.system is unknown"),
    "an unknown library": (_hparam("model", "library", value="os"), "model.library=os"),
    "another net": (_hparam("model", "name", value="resnet18"), "model.width|do not fit"),
    "a million classes": (_hparam("classes", value=[f"c{i}" for i in range(10**6)]), "1000000 classes"),
    "classes that are no list": (_hparam("classes", value="abcd"), "classes are no list"),
    "classes of numbers": (_hparam("classes", value=[0, 1, 2, 3]), "classes are no list"),
    "a class twice": (_hparam("classes", value=["a", "a", "b", "c"]), "4 classes"),
    "one class fewer": (_hparam("classes", value=["a", "b", "c"]), "3 classes"),
    "mean values that are text": (_hparam("model", "mean", value="abc"), "do not fit|mean"),
    "no spread of colours": (_hparam("model", "std", value=[0.0, 0.0, 0.0]), r"model\.std"),
    "no head": (lambda checkpoint: checkpoint["hyper_parameters"]["model"].pop("head"), "do not fit.*head"),
    "no weights": (lambda checkpoint: checkpoint.update(state_dict={}), "do not fit"),
    "weights that are a list": (lambda checkpoint: checkpoint.update(state_dict=[1]), "do not fit"),
    "a weight that is a number": (_first_weight(5), "do not fit"),
    "a weight of another shape": (_first_weight(torch.zeros(1)), "do not fit"),
    "a weight that is no number": (_first_weight(lambda weight: weight * float("nan")), "no finite numbers"),
    "a weight without end": (_first_weight(lambda weight: weight + float("inf")), "no finite numbers"),
    "a weight that takes no memory": (_first_weight(torch.zeros(1).expand(10**6, 10**6)), "read safely"),
    "a hidden layer of 600,000 that takes no memory": (lambda checkpoint: _hidden(checkpoint, 600_000), "read safely"),
    "a thousand weights that are one": (
        lambda checkpoint: checkpoint["state_dict"].update(dict.fromkeys(map(str, range(1000)), torch.zeros(10**6))),
        "read safely",
    ),
    "a list of lists of lists without end": (
        lambda checkpoint: checkpoint.update(epoch=_laughs([0], 30)),
        "read safely",
    ),
    "a list of itself": (lambda checkpoint: checkpoint.update(temperature=_of_itself()), "read safely"),
    "a weight on no device": (_first_weight(lambda weight: weight.to("meta")), "read safely"),
    "a weight of complex numbers": (_first_weight(lambda weight: weight.to(torch.complex64)), "read safely"),
    "an optimizer that runs a command": (_hparam("optimizer", "_target_", value="os.system"), None),
    "a fine-tuning that is none": (_hparam("finetune", "name", value="os.system"), "finetune=os.system"),
    "an augmentation that is none": (_hparam("augment", "name", value="os.system"), None),
    "a temperature below 0": (lambda checkpoint: checkpoint.update(temperature=-1.0), "its temperature is -1"),
    "a temperature in words": (lambda checkpoint: checkpoint.update(temperature="hot"), "its temperature is 'hot'"),
    "limits that are none": (lambda checkpoint: checkpoint.update(limits=5), "limits are not whole"),
    "limits of another net": (
        lambda checkpoint: checkpoint.update(
            limits={
                "means": torch.zeros(4, 9),
                "whitening": torch.zeros(9, 2),
                "threshold": 1.0,
                "abstention": {},
                "tta": "none",
            }
        ),
        "limits are of another net",
    ),
    "an epoch in words": (lambda checkpoint: checkpoint.update(epoch="last"), "its epoch is .last."),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_checkpoint_that_was_changed(kind, another, predict_refused, write_image, tmp_path, count):
    change, words = CHANGES[kind]
    run = another("changed", change)
    if words:
        predict_refused(run, words)
        return
    table = bloodcell.load(run).predict(write_image(tmp_path / "a.png"))
    assert len(table) == 1
    count("checkpoints", "right")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gone", "no such run or checkpoint"),
        ("an empty folder", "holds no checkpoint"),
        ("a run without checkpoints", "holds no checkpoint"),
        ("a device", "holds no checkpoint|no checkpoint"),
        ("a pipe", "holds no checkpoint|no checkpoint"),
        ("nothing", "checkpoint is not set|no such run|holds no checkpoint"),
        ("an empty list", "names nothing"),
        ("the same twice", "named twice"),
    ],
)
def test_what_is_no_run(kind, words, quick_run, tmp_path, predict_refused):
    place = tmp_path / "place"
    if kind == "an empty folder":
        place.mkdir()
    elif kind == "a run without checkpoints":
        shutil.copytree(quick_run, place, ignore=shutil.ignore_patterns("*.ckpt", ".lock"))
    elif kind == "a device":
        place.symlink_to("/dev/zero")
    elif kind == "a pipe":
        os.mkfifo(place)
    given = {"nothing": "", "an empty list": "[]", "the same twice": f"[{quick_run},{quick_run}]"}.get(kind, place)
    predict_refused(given, words)


#: What was changed in a run's folder -> the file, its new content, and the words of the refusal of an evaluation.
RUN_FILES = {
    "samples.csv is empty": ("samples.csv", b"", r"samples\.csv"),
    "samples.csv is a picture": ("samples.csv", b"\x89PNG\r\n\x1a\n\0\0", r"samples\.csv"),
    "samples.csv lacks a column": ("samples.csv", b"path,label\na.png,a\n", r"samples\.csv"),
    "samples.csv has a header alone": ("samples.csv", b"path,label,split,source,set,root\n", r"samples\.csv"),
    "samples.csv is of a folder that is gone": (
        "samples.csv",
        b"path,label,split,source,set,root\na.png,EOSINOPHIL,test,,,/gone\n",
        "no longer in /gone",
    ),
}


@pytest.mark.parametrize("kind", RUN_FILES)
def test_a_run_folder_that_is_damaged(kind, another, refused):
    name, content, words = RUN_FILES[kind]
    run = another("damaged")
    (run / name).write_bytes(content)
    refused("run folders", words, "evaluate", f"checkpoint={run}")


@pytest.mark.parametrize(
    ("kind", "record", "config", "words"),
    [
        ("config.yaml is no YAML", b'{"status": "failed"}', b"a: [", "config.yaml"),
        ("config.yaml is a list", b'{"status": "failed"}', b"- a\n- b\n", "config.yaml"),
        ("config.yaml is empty", b'{"status": "failed"}', b"", "config.yaml"),
        (
            "config.yaml has aliases",
            b'{"status": "failed"}',
            b"a: &a [x]\nb: [*a, *a]\n",
            "config.yaml is damaged .*alias",
        ),
        (
            "config.yaml has interpolations",
            b'{"status": "failed"}',
            b"a: ${oc.env:HOME}\n",
            "config.yaml.*interpolation",
        ),
        ("config.yaml is nested", b'{"status": "failed"}', b"a: " + b"[" * 10**5, "config.yaml is damaged"),
        ("config.yaml is long", b'{"status": "failed"}', b"a: b\n" + b"#" * 2**20, "config.yaml is damaged"),
        ("run.json is nested", b"[" * 10**5, None, "no run there"),
        (
            "config.yaml builds an object",
            b'{"status": "failed"}',
            b"a: !!python/object/apply:os.system ['touch x']\n",
            "config.yaml",
        ),
        ("config.yaml lacks what is needed", b'{"status": "failed"}', b"seed: 0\n", "config.yaml"),
        ("the run has finished", b'{"status": "finished"}', None, "has finished"),
    ],
)
def test_a_run_that_cannot_be_resumed(kind, record, config, words, another, tmp_path, refused):
    run = another("resumed")
    (run / "run.json").write_bytes(record)
    if config is not None:
        (run / "config.yaml").write_bytes(config)
    refused("run folders", words, "train", f"resume={run}")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "override", ["trainer.max_epochs=abc", "trainer.gpus=many", "trainer.nosuch=1", "seed=1", "trainer.max_epochs=["]
)
def test_what_a_resumed_run_is_told(override, another, refused):
    run = another("resumed")
    (run / "run.json").write_text('{"status": "failed"}')
    refused("run folders", "trainer|leave out seed=1|no viable alternative", "train", f"resume={run}", override)


def test_a_hostile_checkpoint_is_refused_from_python_too(tmp_path):
    file, mark = tmp_path / "some.ckpt", tmp_path / "mark"
    torch.save({"state_dict": Payload(f"touch {mark}"), "hyper_parameters": {}}, file)
    for read in (lambda: bloodcell.load(file), lambda: bloodcell.load([file])):
        with pytest.raises(BloodcellError, match="no checkpoint that can be read safely"):
            read()
    assert not mark.exists()
    os.system(f"touch {mark}")  # the payload is one
    assert mark.exists()


def test_tensors_in_any_order_of_their_axes_are_read(tmp_path):
    from bloodcell.models.weights import load_safely

    image = torch.rand(2, 3, 4, 5)
    kinds = [image.to(memory_format=torch.channels_last), image.transpose(1, 3), image[:1], torch.zeros(0, 3), image[0]]
    torch.save({"state": [image, *kinds, torch.tensor(1)]}, tmp_path / "a.pt")
    assert all(map(torch.equal, load_safely(tmp_path / "a.pt")["state"], [image, *kinds, torch.tensor(1)]))
