"""The Kaggle set: found from every parent folder, downloaded by kagglehub, and counted."""

import os
import sys
import types
from pathlib import Path

import pytest

from bloodcell.data import kaggle
from bloodcell.data.kaggle import CLASSES, find_images, read_kaggle
from bloodcell.runtime.errors import BloodcellError

SMALL_COUNTS = {"train": 8, "test": 4, "test_simple": 4}
INSIDE = "dataset2-master/dataset2-master/images"


def write_set(images: Path, write_image, left_out=()):
    """Write a small set: two TRAIN, one TEST and one TEST_SIMPLE image of each class."""
    for split, count in (("TRAIN", 2), ("TEST", 1), ("TEST_SIMPLE", 1)):
        for name in CLASSES:
            for number in range(count):
                if f"{split}/{name}/{number}" not in left_out:
                    write_image(images / split / name / f"_{number}_1.jpeg", seed=number)


@pytest.fixture
def kagglehub(monkeypatch):
    """Put a stub in place of kagglehub: kagglehub(download) with download(folder of the set's version) -> None."""

    def install(download):
        module = types.ModuleType("kagglehub")
        module.calls = []

        def dataset_download(handle):
            module.calls.append(handle)
            folder = Path(os.environ["KAGGLEHUB_CACHE"], "datasets", *handle.split("/"), "versions", "6")
            download(folder)
            return str(folder)

        module.dataset_download = dataset_download
        monkeypatch.setitem(sys.modules, "kagglehub", module)
        return module

    monkeypatch.setattr(kaggle, "COUNTS", SMALL_COUNTS)
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    return install


def test_the_set_is_found_from_every_parent_folder(tmp_path, write_image):
    write_set(tmp_path / "mine/kaggle" / INSIDE, write_image)
    write_image(tmp_path / "mine/kaggle/dataset-master/dataset-master/JPEGImages/BloodImage_00000.jpg")
    folder = tmp_path / "mine/kaggle" / INSIDE
    while folder != tmp_path:
        samples = read_kaggle(str(folder), False, None)
        assert samples.table["split"].value_counts().to_dict() == SMALL_COUNTS
        assert sorted(set(samples.table["label"])) == list(CLASSES)
        assert samples.root == folder
        assert all(file.is_file() for file in samples.files())
        folder = folder.parent


def test_letter_case_does_not_matter(tmp_path, write_image):
    for name in CLASSES:
        write_image(tmp_path / "images" / "Train" / name.title() / "0.jpeg")
    assert find_images(tmp_path) == tmp_path / "images"


def test_folders_of_other_classes_are_not_the_set(tmp_path, class_folders):
    root = class_folders({"TRAIN/EOSINOPHIL": 1, "TRAIN/LYMPHOCYTE": 1})
    with pytest.raises(BloodcellError) as raised:
        read_kaggle(str(root), False, None)
    assert str(raised.value).splitlines() == [
        f"no Kaggle blood-cell images (images/TRAIN with EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL) in {root}",
        "set data.root=DIR or BLOODCELL_DATA, or fetch them with data.download=true",
    ]
    with pytest.raises(BloodcellError, match=r"data\.download=true"):
        read_kaggle(str(tmp_path / "gone"), False, None)


def test_a_download_is_stored_in_the_cache_and_found_again(tmp_path, write_image, kagglehub):
    hub = kagglehub(lambda folder: write_set(folder / INSIDE, write_image))
    samples = read_kaggle(None, True, str(tmp_path))
    assert samples.root == tmp_path / "kaggle"
    assert all(file.is_file() for file in samples.files())
    assert hub.calls == ["paultimothymooney/blood-cells"]
    assert "KAGGLEHUB_CACHE" not in os.environ
    for download in (True, False):
        assert read_kaggle(None, download, str(tmp_path)).table.equals(samples.table)
    assert len(hub.calls) == 1  # nothing is downloaded twice


def test_the_users_own_cache_setting_is_restored(tmp_path, write_image, kagglehub, monkeypatch):
    kagglehub(lambda folder: write_set(folder / INSIDE, write_image))
    monkeypatch.setenv("KAGGLEHUB_CACHE", "/elsewhere")
    read_kaggle(str(tmp_path / "new"), True, None)
    assert os.environ["KAGGLEHUB_CACHE"] == "/elsewhere"


def test_an_interrupted_download_is_continued_and_not_trained_on(tmp_path, write_image, kagglehub):
    def interrupted(folder):
        write_set(folder / INSIDE, write_image, left_out={"TRAIN/MONOCYTE/1", "TEST/MONOCYTE/0"})
        raise ConnectionError("connection reset")

    kagglehub(interrupted)
    with pytest.raises(BloodcellError, match=r"could not download .*connection reset\nthe same command continues"):
        read_kaggle(None, True, str(tmp_path))
    with pytest.raises(BloodcellError, match=r"incomplete: it has \{'train': 7, 'test': 3, 'test_simple': 4\}"):
        read_kaggle(None, False, str(tmp_path))
    kagglehub(lambda folder: write_set(folder / INSIDE, write_image))
    assert len(read_kaggle(None, True, str(tmp_path)).table) == 16


def test_without_a_connection_there_is_one_clear_message(tmp_path, kagglehub):
    def offline(_):
        raise ConnectionError("Failed to resolve\n'api.kaggle.com'")

    kagglehub(offline)
    with pytest.raises(BloodcellError) as raised:
        read_kaggle(None, True, str(tmp_path))
    assert str(raised.value).splitlines() == [
        "could not download paultimothymooney/blood-cells: Failed to resolve 'api.kaggle.com'",
        "the same command continues the download; or fetch it in a browser, unpack it and set data.root=DIR",
    ]


def test_a_download_that_lacks_images_is_refused(tmp_path, write_image, kagglehub):
    kagglehub(lambda folder: write_set(folder / INSIDE, write_image, left_out={"TEST/NEUTROPHIL/0"}))
    with pytest.raises(BloodcellError, match=r"incomplete: .*'test': 3.*the set has .*'test': 4.*delete it"):
        read_kaggle(None, True, str(tmp_path))


def test_a_download_of_something_else_is_refused(tmp_path, kagglehub):
    kagglehub(lambda folder: folder.mkdir(parents=True))
    with pytest.raises(BloodcellError, match=r"incomplete: it has \{'train': 0"):
        read_kaggle(None, True, str(tmp_path))


def test_without_kagglehub_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(BloodcellError, match=r"needs kagglehub: pip install 'bloodcell\[download\]'"):
        read_kaggle(None, True, str(tmp_path))


def test_the_counts_are_kaggles():
    assert kaggle.COUNTS == {"train": 9957, "test": 2487, "test_simple": 71}
