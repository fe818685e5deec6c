"""`bloodcell train FOLDER`: what follows from the images, and what is said of unknown sources."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell import cli
from bloodcell.data.crop import chosen_crop, measured_extent
from bloodcell.data.samples import Samples
from bloodcell.inference.loader import load_engines
from bloodcell.models.ood import Limits, from_plain, to_plain
from bloodcell.runtime.config import typed
from bloodcell.runtime.run_folder import read_run
from bloodcell.runtime.schema.verbs import TrainConfig
from bloodcell.training import audit_first as before_training
from bloodcell.training.audit_first import audit_first
from bloodcell.training.settings import settled
from bloodcell.training.train import train
from tests.conftest import QUICK


@pytest.fixture
def folder_of_cells(tmp_path):
    """Write images of one nucleus each and return their samples: folder_of_cells(place, count, stain) -> Samples."""

    def written(place, count=40, stain=(110, 40, 150)):
        random = np.random.default_rng(0)
        for number in range(count):
            image = np.full((120, 120, 3), (220, 190, 200), np.uint8)
            middle = (60, 60) if place == "centre" else random.integers(20, 100, 2)
            rows, columns = np.mgrid[:120, :120]
            image[(rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < 15**2] = stain
            Image.fromarray(image).save(tmp_path / f"{number:03}.png")
        names = [f"{number:03}.png" for number in range(count)]
        table = pd.DataFrame({"path": names, "label": "a", "split": "train", "source": "", "set": ""})
        return Samples(table, tmp_path)

    return written


@pytest.mark.parametrize(
    ("place", "stain", "crop", "reason"),
    [
        ("centre", (110, 40, 150), "none", "lies 0 % of the side off the centre"),
        ("anywhere", (110, 40, 150), "cell", "of the side off the centre"),
        ("anywhere", (120, 120, 120), "none", "a nucleus is found in 0 % of 40 images"),
    ],
)
def test_the_crop_follows_from_where_the_nuclei_lie(folder_of_cells, capsys, place, stain, crop, reason):
    assert chosen_crop(folder_of_cells(place, stain=stain)) == crop
    assert reason in capsys.readouterr().out


def test_the_crop_follows_from_where_the_net_sees_the_cells(folder_of_cells, capsys):
    assert chosen_crop(folder_of_cells("anywhere"), finder=2) == "cell"
    assert "the cell lies" in capsys.readouterr().out


def test_the_size_of_the_cells_is_measured_where_most_images_have_one(folder_of_cells, tmp_path):
    assert 120 / 40 < measured_extent(folder_of_cells("anywhere")) < 120 / 30  # a disc of 30 pixels, and some plasm
    samples = folder_of_cells("centre")
    for number in range(21):  # of 40
        Image.new("RGB", (120, 120), (220, 190, 200)).save(tmp_path / f"{number:03}.png")
    assert measured_extent(samples) is None


@pytest.mark.parametrize(
    ("images", "epoch_size", "epochs"), [(100, 512, 20), (1000, 1000, 11), (5000, 2048, 5), (100_000, 2048, 49)]
)
def test_epochs_follow_from_the_number_of_images(compose, tmp_path, images, epoch_size, epochs):
    config = typed(compose("experiment=own_folder", "data.root=x", "data.crop=none"), TrainConfig)
    rows = {"path": [f"{i}.png" for i in range(images)], "label": "a", "split": "train", "source": "", "set": ""}
    found = settled(config, Samples(pd.DataFrame(rows), tmp_path))
    assert (found.data.epoch_size, found.trainer.max_epochs) == (epoch_size, epochs)
    assert settled(found, Samples(pd.DataFrame(rows), tmp_path)) == found


def test_a_folder_is_audited_trained_and_reported(class_folders, monkeypatch, tmp_path, capsys):
    root = class_folders({"a": 40, "b": 40})
    quick = [one for one in QUICK if not one.startswith("data.batch_size")]
    own = ["data.epoch_size=32", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}", f"outputs={tmp_path}"]
    own.append(f"cache.root={tmp_path / 'cache'}")  # no other test knows its sources
    monkeypatch.setattr(sys, "argv", ["bloodcell", "train", str(root), *quick, *own, "data.batch_size=16"])
    cli.main()
    said = capsys.readouterr().out
    assert (tmp_path / "audit" / "run" / "sources.csv").is_file()
    assert (tmp_path / "run" / "report.html").is_file()
    assert "from 80 sources" in said
    assert "test images were not in it before" in said
    assert "often far better" not in said  # that is for the frozen baseline


def test_an_audit_that_takes_long_is_left_to_the_user(compose, class_folders, tmp_path, capsys, monkeypatch):
    root = class_folders({"a": 6, "b": 6})
    monkeypatch.setattr(before_training, "SECONDS_AN_IMAGE", 100)
    own = f"cache.root={tmp_path / 'cache'}"
    audit_first(typed(compose("experiment=own_folder", f"data.root={root}", own), TrainConfig), tmp_path / "audit")
    assert f"bloodcell audit {root}" in capsys.readouterr().out
    assert not (tmp_path / "audit").exists()


def test_unknown_sources_give_provisional_limits_and_no_promise(compose, class_folders, tmp_path, capsys):
    root = class_folders({"a": 160, "b": 160})
    choices = ["data=imagefolder", f"data.root={root}", "data.val_fraction=0.3", "logger=none", f"outputs={tmp_path}"]
    train(compose(*QUICK, *choices, "evaluate.figures=false"), tmp_path / "run")
    said = capsys.readouterr().out
    assert "limits by 96 val images, provisional, for it is unknown which images show the same cell or patient" in said
    assert said.strip().endswith(f"by: bloodcell train {root}")
    (engine,) = load_engines(tmp_path / "run", "cpu")
    assert engine.limits.provisional
    assert set(engine.limits.abstention.values()) == {None}
    assert engine.confusion.provisional
    assert sum(map(sum, engine.confusion.counts)) == 96  # as if each image were of another cell
    assert read_run(tmp_path / "run")["status"] == "finished"


def test_older_limits_are_not_provisional():
    limits = Limits(np.zeros((2, 3), np.float32), np.zeros((3, 1), np.float32), 1.0, {}, "none", True)
    plain = to_plain(limits)
    assert from_plain(plain).provisional
    assert not from_plain({key: value for key, value in plain.items() if key != "provisional"}).provisional
