"""Folders: which are classes, images and splits."""

import os
import sys

import pytest

from bloodcell.data.folders import image_files, is_hidden, visible_folders
from bloodcell.data.layouts import class_folder_rows, split_folders
from bloodcell.runtime.errors import BloodcellError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes of POSIX")


def names(folder):
    return sorted(file.relative_to(folder).as_posix() for file in image_files(folder))


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", ".DS_169665.jpg", "._x.jpg", "Thumbs.db", "desktop.ini", "__MACOSX", ".git"]
)
def test_system_files_and_folders_are_hidden(name):
    assert is_hidden(name)


def test_hidden_folders_are_not_classes_and_hidden_files_are_not_images(class_folders, write_image):
    root = class_folders({"b": 2, "a": 1, ".ipynb_checkpoints": 3, "__MACOSX": 1, "a/.ipynb_checkpoints": 2})
    for name in (".DS_169665.jpg", "._x.jpg"):
        write_image(root / "a" / name)
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / "notes.txt").write_text("x")
    write_image(root / "stray.png")
    assert [(file.relative_to(root).as_posix(), *rest) for file, *rest in class_folder_rows(root, "val")] == [
        ("a/0.png", "a", "val", ""),
        ("b/0.png", "b", "val", ""),
        ("b/1.png", "b", "val", ""),
    ]


def test_endings_in_any_letter_case_and_folders_below(tmp_path, write_image):
    for name in ("a.JPG", "b.jpeg", "deep/er/c.TIF", "deep/d.Png"):
        write_image(tmp_path / name, format="png")
    assert names(tmp_path) == ["a.JPG", "b.jpeg", "deep/d.Png", "deep/er/c.TIF"]


def test_a_folder_named_as_an_image_is_a_folder(tmp_path, write_image):
    write_image(tmp_path / "x.jpg" / "y.png")
    (tmp_path / "empty.png").mkdir()
    assert names(tmp_path) == ["x.jpg/y.png"]


@posix
@pytest.mark.timeout(10)
def test_pipes_and_dangling_links_are_listed_as_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    assert names(tmp_path) == ["dangling.jpg", "pipe.jpg"]


def test_an_unreadable_folder_raises_an_error(tmp_path, write_image, monkeypatch):
    write_image(tmp_path / "a" / "0.png")
    (tmp_path / "b").mkdir()
    look = os.scandir

    def denied(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(BloodcellError, match=r"^cannot read the folder .*b: Permission denied$"):
        names(tmp_path)


@posix
@pytest.mark.timeout(10)
def test_loops_of_links_end_and_each_folder_counts_once(tmp_path, write_image):
    write_image(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(tmp_path) == ["a/0.png"]  # by the name that comes first, on every machine


@posix
def test_a_class_may_be_a_link(tmp_path, write_image):
    write_image(tmp_path / "store" / "0.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "store")
    assert [row[1] for row in class_folder_rows(tmp_path / "root", "")] == ["a"]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("TRAIN", "VALID", "TEST"), ("Training", "Validation", "Testing")],
)
def test_split_folders_in_any_letter_case(class_folders, train, val, test):
    root = class_folders({f"{train}/a": 1, f"{val}/a": 1, f"{test}/a": 1, "Test_Simple/a": 1, "other/z": 1})
    found = {split: folder.name for split, folder in split_folders(root).items()}
    assert found == {"train": train, "val": val, "test": test, "test_simple": "Test_Simple"}


def test_two_folders_of_one_split_are_refused(class_folders):
    with pytest.raises(BloodcellError, match=r"val and valid both mean the val part; rename or remove one"):
        split_folders(class_folders({"train/a": 1, "val/a": 1, "valid/a": 1}))


def test_a_class_named_test_is_not_a_split(class_folders):
    assert split_folders(class_folders({"test": 1, "control": 1})) == {}


def test_a_missing_folder_and_one_without_classes(tmp_path, write_image):
    with pytest.raises(BloodcellError, match=f"no such folder: {tmp_path / 'gone'}".replace("\\", "\\\\")):
        class_folder_rows(tmp_path / "gone", "")
    write_image(tmp_path / "flat.png")
    with pytest.raises(BloodcellError, match=r"no class folders in .*one folder of images per class"):
        class_folder_rows(tmp_path, "")


def test_an_unreadable_folder_is_named(tmp_path):
    with pytest.raises(BloodcellError, match=r"cannot read the folder .*gone"):
        visible_folders(tmp_path / "gone")
