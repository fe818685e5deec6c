"""Weights of an earlier run: its backbone, or one clear line."""

import io
import json
import shutil
import zipfile
from types import SimpleNamespace

import pytest
import torch

from bloodcell.audits.overlap import weights_leak
from bloodcell.data.samples import read_samples
from bloodcell.models.backbones import build_backbone, state_digest
from bloodcell.models.classifier import load_checkpoint
from bloodcell.models.weights import load_safely
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import train
from tests.conftest import QUICK, SMALL
from tests.inputs.two_faced import two_faced
from tests.models.test_backbones import Payload


def backbone_of(checkpoint):
    state = load_checkpoint(checkpoint)["state_dict"]
    return {key.removeprefix("net.backbone."): value for key, value in state.items() if "backbone" in key}


@pytest.mark.parametrize("place", ["", "checkpoints/best.ckpt", "checkpoints/last.ckpt"])
def test_a_run_or_a_checkpoint_gives_its_backbone(quick_run, place):
    backbone = build_backbone("mobilenet_v2", weights=str(quick_run / place), width=0.25).state_dict()
    expected = backbone_of(quick_run / (place or "checkpoints/best.ckpt"))
    assert set(backbone) == set(expected)
    assert all(torch.equal(value, expected[key]) for key, value in backbone.items())


@pytest.mark.parametrize(("name", "width"), [("mobilenet_v2", 1.0), ("resnet18", None)])
def test_a_run_of_another_architecture_is_one_clear_line(quick_run, name, width):
    with pytest.raises(BloodcellError, match=rf"model\.weights=.* is not a {name}: \d+ tensors do not fit") as raised:
        build_backbone(name, weights=str(quick_run), width=width)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_run(tmp_path):
    with pytest.raises(BloodcellError, match=r"holds no checkpoint \(checkpoints/best\.ckpt\); is it a run folder"):
        build_backbone("mobilenet_v2", weights=str(tmp_path))
    torch.save({"state_dict": Payload(tmp_path / "executed")}, tmp_path / "evil.ckpt")
    with pytest.raises(BloodcellError, match="no file of weights that can be read safely"):
        build_backbone("mobilenet_v2", weights=str(tmp_path / "evil.ckpt"))
    assert not (tmp_path / "executed").exists()


def test_a_run_that_starts_from_another_one_says_so(quick_run, compose, tmp_path, capsys):
    weights = f"model.weights={quick_run}"
    cfg = compose(*[item for item in QUICK if "weights" not in item], weights, *SMALL, f"outputs={tmp_path}")
    train(cfg, tmp_path / "next")
    started, expected = (
        backbone_of(tmp_path / "next" / "checkpoints" / "last.ckpt"),
        backbone_of(quick_run / "checkpoints" / "best.ckpt"),
    )
    assert all(torch.equal(value, expected[key]) for key, value in started.items())  # frozen: only the head is new
    record = json.loads((tmp_path / "next" / "run.json").read_text())
    backbone = build_backbone("mobilenet_v2", weights=str(quick_run), width=0.25)
    assert record["backbone"] == {"weights": str(quick_run), "digest": state_digest(backbone)}
    assert "leak: the run of" not in capsys.readouterr().err  # the same split of the same images


def test_images_that_the_run_was_trained_on_are_a_leak(quick_run, compose, tmp_path):
    samples = read_samples(quick_run / "samples.csv")
    assert weights_leak(samples, str(quick_run)) is None
    assert weights_leak(samples, "DEFAULT") is None
    table = samples.table.copy()
    table.loc[table["split"] == "train", "split"] = "swapped"
    table.loc[table["split"] == "val", "split"] = "train"
    table.loc[table["split"] == "swapped", "split"] = "val"
    swapped = type(samples)(table, samples.root)
    images = (table["split"] == "val").sum()
    for weights in (quick_run, quick_run / "checkpoints" / "best.ckpt"):
        message = weights_leak(swapped, str(weights))
        assert message == f"leak: the run of model.weights={weights} was trained on {images} of {images} val images"
    unknown = type(samples)(table.assign(source=""), samples.root)
    assert weights_leak(unknown, str(quick_run)) == weights_leak(swapped, str(quick_run))  # by file
    alone = tmp_path / "alone.ckpt"
    shutil.copy(quick_run / "checkpoints" / "best.ckpt", alone)
    assert weights_leak(swapped, str(alone)) is None


@pytest.fixture(params=["sizes", "no sizes"])
def reader(request, monkeypatch):
    """Torch's reader of archives, and that of torch 2.11, which does not tell the sizes of their parts."""
    if request.param == "sizes":
        return
    newer = torch._C.PyTorchFileReader

    def older(path):
        reader = newer(path)
        if not isinstance(path, str):
            return reader  # of torch.load
        offset = reader.get_record_header_offset
        return SimpleNamespace(get_all_records=reader.get_all_records, get_record_header_offset=offset)

    monkeypatch.setattr(torch._C, "PyTorchFileReader", older)


def compressed(archive):
    """Return an archive with its parts compressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return made.getvalue()


@pytest.mark.usefixtures("reader")
def test_an_archive_with_a_compressed_part_is_refused(tmp_path):
    content, file = {"weight": torch.zeros(1000)}, tmp_path / "some.pt"
    torch.save(content, file)
    assert torch.equal(load_safely(file)["weight"], content["weight"])
    file.write_bytes(compressed(file))
    with pytest.raises(ValueError, match="a part of it is compressed"):
        load_safely(file)


@pytest.mark.usefixtures("reader")
def test_an_archive_whose_compressed_parts_only_torch_sees_is_refused(tmp_path):
    file, small = tmp_path / "some.pt", io.BytesIO()
    torch.save({"weight": torch.zeros(1000)}, file)
    with zipfile.ZipFile(small, "w") as archive:
        archive.writestr("some/version", "3")
    file.write_bytes(two_faced(compressed(file), small.getvalue()))
    with pytest.raises(ValueError, match=r"a part of it is compressed|another reader sees other parts"):
        load_safely(file)
