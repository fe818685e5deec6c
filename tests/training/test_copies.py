"""A part that holds copies of training images is named before training starts, however they came there."""

import os
import shutil

import pytest
from PIL import Image

from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import train
from tests.conftest import QUICK


def other_names(train_folder, folder):
    for number, file in enumerate(sorted(train_folder.rglob("*.png"))):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name / f"copy_{number}.png")


def other_format(train_folder, folder):
    for file in train_folder.rglob("*.png"):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(file).save(folder / file.parent.name / f"{file.stem}.bmp")


def hard_links(train_folder, folder):
    for file in train_folder.rglob("*.png"):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(file, folder / file.parent.name / file.name)


def link_to_the_folder(train_folder, folder):
    folder.symlink_to(train_folder, target_is_directory=True)


@pytest.mark.parametrize("copied", [other_names, other_format, hard_links, link_to_the_folder])
def test_a_test_folder_that_is_a_copy_of_training(compose, class_folders, tmp_path, copied):
    class_folders({"a": 8, "b": 8}).rename(tmp_path / "data")
    (tmp_path / "set").mkdir()
    (tmp_path / "data").rename(tmp_path / "set" / "train")
    copied(tmp_path / "set" / "train", tmp_path / "set" / "test")
    own = f"cache.root={tmp_path / 'cache'}"  # no other test's sources of the same images
    config = compose(*QUICK, "data=imagefolder", f"data.root={tmp_path / 'set'}", "data.leak_check=error", own)
    with pytest.raises(
        BloodcellError, match=r"leak: the same pictures are in two parts: .*test images also in training"
    ):
        train(config, tmp_path / "run")


def test_a_test_folder_that_is_the_training_folder(compose, class_folders, tmp_path):
    root = class_folders({"a": 8, "b": 8})
    given = ["data=imagefolder", f"data.train_dir={root}", f"data.test_dir={root}", "data.leak_check=error"]
    with pytest.raises(BloodcellError, match="is there twice|the same pictures are in two parts"):
        train(compose(*QUICK, *given), tmp_path / "run")
