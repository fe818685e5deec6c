"""The check of all images: bad ones are found, and good ones are not decoded again."""

import os

import pytest

from bloodcell.data import image_check
from bloodcell.data.image_check import check_images, without_bad_images
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


def test_only_bad_images_are_decoded_again(samples, tmp_path, decoded):
    first = check_images(samples, tmp_path / "cache")
    assert len(decoded) == 8
    decoded.clear()
    assert check_images(samples, tmp_path / "cache").equals(first)
    assert sorted(decoded) == ["bad.jpg", "zero.png"]  # the failure may have been temporary


def test_good_images_are_decoded_once(class_folders, tmp_path, decoded):
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


def test_a_temporary_failure_is_forgotten(class_folders, tmp_path, monkeypatch):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    with monkeypatch.context() as patch:
        patch.setattr("bloodcell.data.images.MAX_PIXELS", 1)
        assert len(check_images(samples, tmp_path / "cache")) == 2
    assert check_images(samples, tmp_path / "cache").empty


@pytest.mark.parametrize("content", ["", "nonsense", "identity\nx\n", "\x00\x01"])
def test_a_damaged_record_is_replaced(class_folders, tmp_path, decoded, content):
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


def test_progress_is_reported(samples, tmp_path):
    reported = []
    check_images(samples, tmp_path / "cache", lambda done, count: reported.append((done, count)))
    assert reported[0] == (0, 8)


def test_the_error_names_one_bad_image_and_all_are_listed(samples, tmp_path):
    bad, listed = check_images(samples, tmp_path / "cache"), tmp_path / "bad_images.csv"
    with pytest.raises(BloodcellError) as raised:
        without_bad_images(samples, bad, "error", listed)
    assert str(raised.value).splitlines() == [
        "2 of 8 images cannot be read, e.g. a/bad.jpg: not an image",
        f"all are listed in {listed}; repair them, or leave them out with data.on_bad_image=skip",
    ]
    assert listed.read_text() == "path,reason\na/bad.jpg,not an image\nb/zero.png,empty file\n"


def test_skip_leaves_bad_images_out_and_lists_them(samples, tmp_path):
    bad, listed = check_images(samples, tmp_path / "cache"), tmp_path / "bad_images.csv"
    rest = without_bad_images(samples, bad, "skip", listed)
    assert rest.table["path"].tolist() == [f"{name}/{i}.png" for name in "ab" for i in range(3)]
    assert rest.table.index.tolist() == list(range(6))
    assert listed.is_file()


def test_without_bad_images_nothing_is_changed_or_written(class_folders, tmp_path):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    bad = check_images(samples, tmp_path / "cache")
    assert without_bad_images(samples, bad, "error", tmp_path / "bad.csv") is samples
    assert not (tmp_path / "bad.csv").exists()


def test_no_good_image_is_left(class_folders, tmp_path):
    root = class_folders({"a": 0})
    (root / "a" / "x.jpg").write_text("words")
    samples = read_imagefolder(str(root))
    bad = check_images(samples, tmp_path / "cache")
    with pytest.raises(BloodcellError, match=r"no image in .* can be read; the reasons are in .*bad\.csv"):
        without_bad_images(samples, bad, "skip", tmp_path / "bad.csv")
