"""The check of all images: what is bad, and what need not be decoded again."""

import os

import pytest

from bloodcell.data import image_check
from bloodcell.data.image_check import check_images, without_bad
from bloodcell.data.readers import read_imagefolder
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of the files that are decoded, as it grows."""
    files, read = [], image_check.read_image
    monkeypatch.setattr(image_check, "read_image", lambda path: (files.append(path.name), read(path))[1])
    return files


@pytest.fixture
def samples(class_folders):
    root = class_folders({"a": 3, "b": 3})
    (root / "a" / "bad.jpg").write_text("words")
    (root / "b" / "zero.png").touch()
    return read_imagefolder(str(root))


def test_bad_images_are_listed_with_their_reason(samples, tmp_path):
    bad = check_images(samples, tmp_path / "cache")
    assert bad.to_numpy().tolist() == [["a/bad.jpg", "not an image"], ["b/zero.png", "empty file"]]


def test_what_was_found_good_is_decoded_once(samples, tmp_path, decoded):
    first = check_images(samples, tmp_path / "cache")
    assert len(decoded) == 8
    decoded.clear()
    assert check_images(samples, tmp_path / "cache").equals(first)
    assert sorted(decoded) == ["bad.jpg", "zero.png"]  # a failure may have passed


def test_good_images_alone_are_not_decoded_again(class_folders, tmp_path, decoded):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    for _ in range(2):
        bad = check_images(samples, tmp_path / "cache")
        assert bad.empty
        assert list(bad.columns) == ["path", "reason"]
    assert len(decoded) == 2


def test_a_changed_file_is_decoded_again(class_folders, tmp_path, decoded):
    samples = read_imagefolder(str(class_folders({"a": 3})))
    check_images(samples, tmp_path / "cache")
    decoded.clear()
    file, other, _ = samples.files()
    file.write_bytes(b"now it is bad")
    os.utime(other, ns=(1, 1))
    bad = check_images(samples, tmp_path / "cache")
    assert sorted(decoded) == ["0.png", "1.png"]
    assert bad["path"].tolist() == ["a/0.png"]


def test_a_failure_that_passes_is_forgotten(class_folders, tmp_path, monkeypatch):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    with monkeypatch.context() as patch:
        patch.setattr("bloodcell.data.images.MAX_PIXELS", 1)
        assert len(check_images(samples, tmp_path / "cache")) == 2
    assert check_images(samples, tmp_path / "cache").empty


@pytest.mark.parametrize("content", ["", "nonsense", "identity\nx\n", "\x00\x01"])
def test_a_damaged_record_is_made_anew(class_folders, tmp_path, decoded, content):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    check_images(samples, tmp_path / "cache")
    (record,) = (tmp_path / "cache" / "checks").iterdir()
    record.write_text(content)
    decoded.clear()
    assert check_images(samples, tmp_path / "cache").empty
    assert len(decoded) == 2


def test_a_missing_file_is_bad(class_folders, tmp_path):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    samples.files()[1].unlink()
    assert check_images(samples, tmp_path / "cache").to_numpy().tolist() == [["a/1.png", "no such file"]]


def test_progress_is_told(samples, tmp_path):
    told = []
    check_images(samples, tmp_path / "cache", lambda done, count: told.append((done, count)))
    assert told[0] == (0, 8)


def test_error_names_one_and_lists_all(samples, tmp_path):
    bad, listed = check_images(samples, tmp_path / "cache"), tmp_path / "bad_images.csv"
    with pytest.raises(BloodcellError) as raised:
        without_bad(samples, bad, "error", listed)
    assert str(raised.value).splitlines() == [
        "2 of 8 images cannot be read, e.g. a/bad.jpg: not an image",
        f"all are listed in {listed}; mend them, or leave them out with data.on_bad_image=skip",
    ]
    assert listed.read_text() == "path,reason\na/bad.jpg,not an image\nb/zero.png,empty file\n"


def test_skip_leaves_them_out_and_lists_them(samples, tmp_path):
    bad, listed = check_images(samples, tmp_path / "cache"), tmp_path / "bad_images.csv"
    rest = without_bad(samples, bad, "skip", listed)
    assert rest.table["path"].tolist() == [f"{name}/{i}.png" for name in "ab" for i in range(3)]
    assert rest.table.index.tolist() == list(range(6))
    assert listed.is_file()


def test_nothing_bad_changes_and_writes_nothing(class_folders, tmp_path):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    bad = check_images(samples, tmp_path / "cache")
    assert without_bad(samples, bad, "error", tmp_path / "bad.csv") is samples
    assert not (tmp_path / "bad.csv").exists()


def test_nothing_is_left(class_folders, tmp_path):
    root = class_folders({"a": 0})
    (root / "a" / "x.jpg").write_text("words")
    samples = read_imagefolder(str(root))
    bad = check_images(samples, tmp_path / "cache")
    with pytest.raises(BloodcellError, match=r"no image in .* can be read; the reasons are in .*bad\.csv"):
        without_bad(samples, bad, "skip", tmp_path / "bad.csv")
