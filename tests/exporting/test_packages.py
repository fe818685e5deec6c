"""The packages for two model hubs: each passes its hub's own checks, and a folder answers as its ONNX file does."""

import errno
import gc
import io
import json
import shutil
import socket
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import bloodcell
from bloodcell.data.synthetic.painter import CLASSES
from bloodcell.exports.bioimageio import images_to_test
from bloodcell.exports.export import export
from bloodcell.exports.formats import FORMATS
from bloodcell.inference.exported.metadata import UNLIKE
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import predict
from bloodcell.models.ood import Limits, to_plain
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.run_folder import checkpoint_of

AUTHORS = "authors=[{name: Ada Lovelace, affiliation: 'University, of London', github_user: ada}]"
CITE = "cite=[{text: 'A paper', doi: 10.1234/abcd}]"


@pytest.fixture
def make(compose, tmp_path, exported, learnt_run, monkeypatch):
    """Export with a net that is exported already: make("huggingface", *overrides) -> file or folder."""
    ready = exported("onnx").read_bytes()
    monkeypatch.setattr("bloodcell.exports.parity.FILES", 1)  # comparing more takes a second
    for form in ("huggingface", "bioimageio"):
        monkeypatch.setitem(FORMATS, form, replace(FORMATS[form], write=lambda *_: ready))

    def run(form, *overrides):
        (tmp_path / "out").mkdir(exist_ok=True)
        choices = f"checkpoint={learnt_run}", f"format={form}", f"output={tmp_path / 'out' / 'x'}{FORMATS[form].ending}"
        return export(compose(*choices, *overrides, verb="export"))

    return run


@pytest.fixture
def folder(exported, tmp_path):
    """Return a folder as an export writes it, but for the card."""
    from bloodcell.inference.exported.model_folder import labels_text
    from bloodcell.inference.exported.onnx_check import checked

    place = tmp_path / "folder"
    place.mkdir()
    (place / "model.onnx").symlink_to(exported("onnx"))  # as the Hub's cache has them
    (place / "config.json").write_text(labels_text(checked(exported("onnx").read_bytes())))
    return place


def left(place):
    return sorted(path.name for path in place.iterdir())


def test_the_hub_reads_the_card_of_a_folder(make, learnt_run):
    cards = pytest.importorskip("huggingface_hub", reason="it comes with the extra timm")
    place = make("huggingface", "license=CC-BY-4.0", "title=Cells: *all* of them", AUTHORS, CITE)
    assert left(place) == ["README.md", "config.json", "model.onnx"]
    card = cards.ModelCard.load(place / "README.md")
    told = card.data
    assert (told.license, told.library_name, told.pipeline_tag) == ("cc-by-4.0", "bloodcell", "image-classification")
    assert told.model_name == "Cells: *all* of them"
    metrics = json.loads((learnt_run / "metrics.json").read_text())
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in told.eval_results}
    for split, part in (("validation", "val"), ("test", "test")):
        assert found[split, "accuracy"] == metrics[f"{part}/accuracy"]
        assert found[split, "f1"] == metrics[f"{part}/macro_f1"]
    assert "# Cells: \\*all\\* of them: a classifier of 4 kinds" in card.text
    assert "- Ada Lovelace, University, of London" in card.text
    assert "- A paper, doi:10.1234/abcd" in card.text
    assert "under the licence CC-BY-4.0" in card.text


def test_a_folder_answers_bit_for_bit_as_its_onnx_file(make, exported, smears, compose, tmp_path):
    place = make("huggingface")
    assert (place / "model.onnx").read_bytes() == exported("onnx").read_bytes()
    files = smears.paths()[:6]
    table = bloodcell.load(place, device="cpu").predict(files)
    assert table.equals(bloodcell.load(exported("onnx"), device="cpu").predict(files))
    written = []
    for checkpoint in (place, exported("onnx")):
        written.append(tmp_path / f"{len(written)}.csv")
        predict(
            compose(
                f"checkpoint={checkpoint}", f"images={files[0]}", f"output={written[-1]}", "device=cpu", verb="predict"
            )
        )
    assert written[0].read_bytes() == written[1].read_bytes()
    config = json.loads((place / "config.json").read_text())
    assert [config["id2label"][str(index)] for index in range(4)] == sorted(config["label2id"])


def test_without_a_licence_the_card_says_unknown_and_the_command_a_word(make, capsys):
    place = make("huggingface")
    assert "licence is unknown: choose one with license=" in capsys.readouterr().out
    assert (place / "README.md").read_text().startswith("---\nlicense: unknown\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told["id2label"].update({"0": "MONOCYTE", "2": "EOSINOPHIL"}), "id2label in config.json is not"),
        (lambda told: told["preprocessing"].update(image_size=64), "preprocessing in config.json is not"),
        (lambda told: told.update(temperature=2.0), "temperature in config.json is not"),
        (lambda told: told.pop("label2id"), "label2id in config.json is not"),
        (lambda told: told.update(id2label=[["EOSINOPHIL"]]), "id2label in config.json is not"),
    ],
)
def test_a_folder_whose_files_contradict_one_another_is_refused(folder, change, said):
    told = json.loads((folder / "config.json").read_text())
    change(told)
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(BloodcellError, match=said):
        load_engines(folder, "cpu")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "is no description"),
        (b" " * (5 * 2**20), "is no description"),
    ],
)
def test_a_strangers_config_is_bounded_and_read_as_plain_values(folder, content, said):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(BloodcellError, match=rf"config\.json {said}"):
        load_engines(folder, "cpu")


def test_a_folder_and_its_file_are_one_classifier(folder, compose, tmp_path):
    with pytest.raises(BloodcellError, match="one is named twice"):
        load_engines([folder, folder / "model.onnx"], "cpu")
    with pytest.raises(BloodcellError, match="is exported already; give the run"):
        export(compose(f"checkpoint={folder}", f"output={tmp_path / 'y.onnx'}", verb="export"))
    (folder / "config.json").unlink()
    with pytest.raises(BloodcellError, match="holds no checkpoint"):
        load_engines(folder, "cpu")


def test_a_full_disk_leaves_the_old_folder_and_no_other(make, monkeypatch):
    place = make("huggingface")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    write = Path.write_text

    def full(path, *arguments, **options):
        if path.name.startswith(".config.json"):
            raise OSError(errno.ENOSPC, "no space left", str(path))
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        make("huggingface", "overwrite=true")
    assert left(place.parent) == ["x"]
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_folder_is_replaced_only_if_told_and_only_if_an_export_wrote_it(make, tmp_path):
    place = make("huggingface")
    (tmp_path / "out" / ".x.4711").mkdir()
    (tmp_path / "out" / ".x.4711" / "model.onnx").write_bytes(b"half")  # of a killed export
    (tmp_path / "out" / ".x.zip.4711").mkdir()  # of another export, at work beside it
    with pytest.raises(BloodcellError, match=r"x is there already; .* overwrite=true"):
        make("huggingface")
    assert make("huggingface", "overwrite=true", "license=MIT") == place
    assert "license: mit" in (place / "README.md").read_text()
    assert left(place.parent) == [".x.zip.4711", "x"]
    (place / "notes.txt").write_text("mine")
    with pytest.raises(BloodcellError, match=r"holds notes\.txt, which no export wrote"):
        make("huggingface", "overwrite=true")
    shutil.rmtree(place)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BloodcellError, match="x is a link, so it is not replaced"):
        make("huggingface", "overwrite=true")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["format=huggingface", "output=x.onnx"], r"x\.onnx is no folder, and this format is one"),
        (["format=bioimageio", AUTHORS], "needs authors and a licence"),
        (["format=bioimageio", "license=MIT"], "needs authors and a licence"),
        (["format=bioimageio", "license=MIT", AUTHORS, "output=x.onnx"], r"names no \.zip file"),
        (["license='MIT or so'"], "license=MIT or so; give an SPDX identifier"),
        (["authors=[{called: Ada}]"], "give {name: ...}, and of affiliation, email, github_user, orcid what there is"),
        (["cite=[A paper]"], "cite=A paper; give its doi or url too"),
        (["title=''"], "title=; give 1 to 128 letters"),
    ],
)
def test_what_is_wrong_is_one_clear_line(compose, learnt_run, tmp_path, overrides, said):
    if "zip" in said:
        pytest.importorskip("bioimageio.core", reason="it comes with the extra bioimageio")
    with pytest.raises(BloodcellError, match=said):
        export(compose(f"checkpoint={learnt_run}", f"output={tmp_path / 'x'}", *overrides, verb="export"))
    assert left(tmp_path) == []


def test_without_the_zoos_programs_a_line_says_what_to_install(make, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bioimageio", None)
    with pytest.raises(BloodcellError, match=r"pip install 'bloodcell\[bioimageio\]'"):
        make("bioimageio", "license=MIT", AUTHORS)
    assert left(tmp_path / "out") == []


@pytest.fixture
def no_net(monkeypatch):
    """Refuse every connection."""

    def refuse(*_):
        raise AssertionError("it asks the net")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def zoo(no_net):
    """Return the zoo's own program, which leaves files open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("bioimageio.core", reason="it comes with the extra bioimageio")
        gc.collect()


def test_the_zoos_own_program_passes_the_package_offline(make, zoo, exported):
    file = make("bioimageio", "license=MIT", "authors=[Ada Lovelace]", CITE)
    assert left(file.parent) == ["x.zip"]
    summary = zoo.test_model(file)
    assert summary.status == "passed", summary.format()
    runs = [one.name for one in summary.details if one.name.startswith("Run onnx inference")]
    assert len(runs) == 6  # three sizes, each of one image and of two
    with zipfile.ZipFile(file) as package:
        image, found = (np.load(io.BytesIO(package.read(f"{name}.npy"))) for name in ("images", "probabilities"))
        assert b"## Validation" in package.read("README.md")
    told = description(file)
    assert told["license"] == "MIT"
    assert told["cite"] == [{"text": "A paper", "doi": "10.1234/abcd"}]
    assert [axis["channel_names"] for axis in told["outputs"][0]["axes"][1:]] == [sorted(CLASSES)]
    row = bloodcell.load(exported("onnx"), device="cpu").predict([image[0]])
    np.testing.assert_allclose(row.filter(like="p_").to_numpy(), found, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("license=NO-SUCH-1.0", "license"),
        ("title=Cells: all", "title"),
        ("cite=[{text: A, doi: x}]", r"cite\.0\.doi"),
    ],
)
def test_a_description_that_the_zoo_refuses_is_not_written(make, zoo, tmp_path, choice, said):
    with pytest.raises(BloodcellError, match=rf"bioimageio refuses the description \({said}.*nothing is written"):
        make("bioimageio", "license=MIT", AUTHORS, choice)
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize(("darkest", "count"), [(0, 2), (200, 1), (-1, 1)])
def test_an_image_that_is_flagged_is_among_those_to_test(darkest, count):
    """The zoo refuses an output that is False for all; -1: nothing is flagged."""
    cell = np.full((8, 9, 3), 120, np.uint8)
    images = images_to_test(lambda images: {UNLIKE: images.mean((1, 2, 3)) <= darkest}, cell)
    assert images.shape == (count, 8, 9, 3)
    assert (images[0] == cell).all()
    assert (images_to_test(lambda _: {}, cell) == cell).all()


@pytest.mark.slow
def test_a_package_of_a_classifier_that_knows_its_limits_is_made_without_the_net(zoo, compose, learnt_run, tmp_path):
    checkpoint = torch.load(checkpoint_of(learnt_run), weights_only=True)
    means, whitening = np.zeros((4, 1280), np.float32), np.ones((1280, 2), np.float32)
    checkpoint["limits"] = to_plain(Limits(means, whitening, 1.0, {"0.05": 0.875, "0.01": None}))
    torch.save(checkpoint, tmp_path / "limits.ckpt")
    choices = ("format=bioimageio", "license=MIT", AUTHORS)
    file = export(compose(f"checkpoint={tmp_path / 'limits.ckpt'}", *choices, verb="export"))  # passes the zoo's test
    assert file == tmp_path / "limits.zip"
    told = description(file)
    assert told["outputs"][3]["data"] == {"type": "bool", "values": [False, True]}
    assert told["authors"] == [{"name": "Ada Lovelace", "affiliation": "University, of London", "github_user": "ada"}]


def description(file):
    with zipfile.ZipFile(file) as package:
        return yaml.safe_load(package.read("rdf.yaml"))
