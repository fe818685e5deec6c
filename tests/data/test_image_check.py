"""The check of all images: bad ones are found, and good ones are not decoded again."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from bloodcell.data import image_check
from bloodcell.data.blank import blank
from bloodcell.data.image_check import blank_lines, check_images, white_lines, without_bad_images
from bloodcell.data.readers import read_imagefolder
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of the files that are decoded, as it grows."""
    files, read = [], image_check.read_picture
    monkeypatch.setattr(image_check, "read_picture", lambda path: (files.append(path.name), read(path))[1])
    return files


def bad_of(checked):
    """Return path and reason of the images that cannot be read."""
    return checked.loc[checked["reason"] != "", ["path", "reason"]].reset_index(drop=True)


@pytest.fixture
def samples(class_folders):
    root = class_folders({"a": 3, "b": 3})
    (root / "a" / "bad.jpg").write_text("words")
    (root / "b" / "zero.png").touch()
    return read_imagefolder(str(root))


def test_bad_images_are_listed_with_their_reason(samples, tmp_path):
    bad = bad_of(check_images(samples, tmp_path / "cache"))
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
        assert bad_of(check_images(samples, tmp_path / "cache")).empty
    assert len(decoded) == 2


def test_a_changed_file_is_decoded_again(class_folders, tmp_path, decoded):
    samples = read_imagefolder(str(class_folders({"a": 3})))
    check_images(samples, tmp_path / "cache")
    decoded.clear()
    file, other, _ = samples.files()
    file.write_bytes(b"now it is bad")
    os.utime(other, ns=(1, 1))  # its content is the same
    bad = bad_of(check_images(samples, tmp_path / "cache"))
    assert decoded == ["0.png"]
    assert bad["path"].tolist() == ["a/0.png"]


def test_a_temporary_failure_is_forgotten(class_folders, tmp_path, monkeypatch):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    with monkeypatch.context() as patch:
        patch.setattr("bloodcell.data.images.MAX_PIXELS", 1)
        assert len(bad_of(check_images(samples, tmp_path / "cache"))) == 2
    assert bad_of(check_images(samples, tmp_path / "cache")).empty


@pytest.mark.parametrize("content", ["", "nonsense", "identity\nx\n", "\x00\x01"])
def test_a_damaged_record_is_replaced(class_folders, tmp_path, decoded, content):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    check_images(samples, tmp_path / "cache")
    (record,) = (tmp_path / "cache" / "checks").iterdir()
    record.write_text(content)
    decoded.clear()
    assert bad_of(check_images(samples, tmp_path / "cache")).empty
    assert len(decoded) == 2


def test_a_missing_file_is_bad(class_folders, tmp_path):
    samples = read_imagefolder(str(class_folders({"a": 2})))
    samples.files()[1].unlink()
    assert bad_of(check_images(samples, tmp_path / "cache")).to_numpy().tolist() == [["a/1.png", "no such file"]]


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
    rest = without_bad_images(samples, bad, "error", tmp_path / "bad.csv")
    assert rest.table.drop(columns="pixels").equals(samples.table)
    assert not (tmp_path / "bad.csv").exists()


def test_no_good_image_is_left(class_folders, tmp_path):
    root = class_folders({"a": 0})
    (root / "a" / "x.jpg").write_text("words")
    samples = read_imagefolder(str(root))
    bad = check_images(samples, tmp_path / "cache")
    with pytest.raises(BloodcellError, match=r"no image in .* can be read; the reasons are in .*bad\.csv"):
        without_bad_images(samples, bad, "skip", tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((0, 12), "black"), ((241, 255), "white"), ((120, 122), "constant"), ((30, 90), ""), ((100, 240), "")],
)
@pytest.mark.parametrize("size", [(20, 30), (900, 1400)])
def test_a_picture_that_shows_nothing(levels, expected, size):
    pixels = np.random.default_rng(0).integers(*levels, (*size, 3), endpoint=True, dtype=np.uint8)
    assert blank(pixels) == expected
    pixels[3, 4] = 255  # a broken pixel
    assert blank(pixels) == expected


def test_blank_pictures_are_named_by_kind(class_folders, tmp_path):
    root = class_folders({"a": 2})
    Image.new("RGB", (20, 20)).save(root / "a" / "2.png")
    Image.new("L", (20, 20), 255).save(root / "a" / "3.png")
    Image.new("L", (20, 20), 255).save(root / "a" / "4.png")
    for _ in range(2):  # the second time by the cache
        checked = check_images(read_imagefolder(str(root)), tmp_path / "cache")
        assert blank_lines(checked) == [
            "1 image of 5 is black all over, e.g. a/2.png; look at it",
            "2 images of 5 are white all over, e.g. a/3.png; look at them",
        ]


def test_the_white_of_a_data_set_is_that_of_its_brightest_file(class_folders, tmp_path):
    root = class_folders({"a": 0})
    bright, dark = np.full((8, 8), 4000, np.uint16), np.full((8, 8), 900, np.uint16)
    for name, values in (("0", bright), ("1", dark), ("2", dark)):
        values[0] = 30
        Image.fromarray(values).save(root / "a" / f"{name}.png")
    samples = read_imagefolder(str(root))
    checked = check_images(samples, tmp_path / "cache")
    assert white_lines(checked) == ["3 files with more than 8 bits declare no white: 4,095 is taken; 2 would fit 1,023"]
    assert without_bad_images(samples, checked, "error", tmp_path / "bad.csv").white == 4095


def test_the_same_picture_has_the_same_pixels_in_any_file(class_folders, tmp_path):
    root = class_folders({"a": 2})
    shutil.copy(root / "a" / "0.png", root / "a" / "2.png")
    Image.open(root / "a" / "0.png").save(root / "a" / "3.bmp")
    pixels = check_images(read_imagefolder(str(root)), tmp_path / "cache").set_index("path")["pixels"]
    assert pixels["a/0.png"] == pixels["a/2.png"] == pixels["a/3.bmp"] != pixels["a/1.png"]
