"""Listing: folders, files and patterns, in an order that stays, whatever lies about."""

import os
import sys

import pytest

from bloodcell.data.image_paths import iter_image_paths
from bloodcell.runtime.errors import BloodcellError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes of POSIX")


@pytest.fixture
def root(tmp_path, write_image):
    """Return a folder of images at several depths, with what is no image and what is hidden."""
    for name in ("b.png", "a.JPG", "deep/er/c.png", "deep/d.jpg", "deep/e.png", ".hidden/x.png", "deep/._y.png"):
        write_image(tmp_path / "root" / name, format="png")
    (tmp_path / "root" / "notes.txt").write_text("x")
    return tmp_path / "root"


def names(root, *given):
    return [os.path.relpath(name, root) for name in iter_image_paths([str(root / one) for one in given])]


def test_a_folder_is_its_images_at_any_depth_by_name_in_each_folder(root):
    assert names(root, ".") == ["a.JPG", "b.png", "deep/d.jpg", "deep/e.png", "deep/er/c.png"]


def test_a_file_is_itself_whatever_its_ending(root):
    assert names(root, "notes.txt", "b.png") == ["notes.txt", "b.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("dee?", ["deep/d.jpg", "deep/e.png", "deep/er/c.png"]),
        ("**/*.png", ["b.png", "deep/e.png", "deep/er/c.png"]),
        ("deep/**", ["deep/d.jpg", "deep/e.png", "deep/er/c.png"]),
        ("**/er/*", ["deep/er/c.png"]),
        ("d*/**/?.png", ["deep/e.png", "deep/er/c.png"]),
        ("d*/?.png", ["deep/e.png"]),
        ("*/er/*", ["deep/er/c.png"]),
        (".hid*/*", [".hidden/x.png"]),
        ("**/[!.]*/[d-e].*", ["deep/d.jpg", "deep/e.png"]),
        ("**/**/c.*", ["deep/er/c.png"]),
    ],
)
def test_a_pattern_is_what_it_matches(root, pattern, expected):
    assert names(root, pattern) == expected


@pytest.mark.parametrize(
    "pattern", ["**/d?ep*.png", "**/er?c.png", "**/er[!x]c.png", "**/[.*].png", "b.png/**", "*/*/*/*"]
)
def test_no_part_of_a_pattern_goes_beyond_its_folder(root, pattern):
    with pytest.raises(BloodcellError, match="matches no file"):
        names(root, pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (".", ["a.JPG", "b.png", "deep"]),
        ("**/*.png", ["b.png", "deep"]),
        ("*/*.png", ["deep"]),
        ("*/er/*.png", ["deep/er"]),
        ("deep/*.png", ["deep"]),
        ("d*", ["deep"]),
    ],
)
def test_a_folder_that_cannot_be_read_is_named_whatever_the_pattern(root, monkeypatch, pattern, expected):
    look = os.scandir

    def denied(path):
        if "deep" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert names(root, pattern) == expected


def test_a_name_that_is_there_is_no_pattern(root, write_image):
    write_image(root / "scan[1]*.png")
    assert names(root, "scan[1]*.png") == ["scan[1]*.png"]


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", [".", "**/*.png"])
def test_links_that_loop_end_and_pipes_are_named(root, pattern):
    for number in range(3):
        (root / "deep" / f"loop{number}").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    found = names(root, pattern)
    assert len(found) == len(set(found)) <= 12
    assert "pipe.png" in found


def test_what_is_not_there_is_one_clear_line(root):
    with pytest.raises(BloodcellError, match="no such file or folder: images=.*absent"):
        names(root, "absent")
    for pattern in ("*.gif", "**/*.gif"):
        with pytest.raises(BloodcellError, match="matches no file"):
            names(root, pattern)


def test_files_are_found_as_they_are_asked_for(root, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "walk", lambda folder, **_: (seen.append(n) or (folder, [], [n]) for n in "ab"))
    monkeypatch.setattr("bloodcell.data.folders.EXTENSIONS", ("",))
    assert next(iter(iter_image_paths([str(root)]))).endswith("a")
    assert seen == ["a"]
