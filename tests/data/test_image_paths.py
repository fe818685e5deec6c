"""Image paths from folders, files and patterns, in a stable order."""

import os
import sys

import pytest

from bloodcell.data.image_paths import iter_image_paths
from bloodcell.runtime.errors import BloodcellError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes of POSIX")


@pytest.fixture
def root(tmp_path, write_image):
    """Return a folder of images at several depths, with a text file and hidden files."""
    for name in ("b.png", "a.JPG", "deep/er/c.png", "deep/d.jpg", "deep/e.png", ".hidden/x.png", "deep/._y.png"):
        write_image(tmp_path / "root" / name, format="png")
    (tmp_path / "root" / "notes.txt").write_text("x")
    return tmp_path / "root"


def names(root, *given):
    return [os.path.relpath(name, root) for name in iter_image_paths([str(root / one) for one in given])]


def test_a_folder_gives_its_images_at_any_depth_sorted_in_each_folder(root):
    assert names(root, ".") == ["a.JPG", "b.png", "deep/d.jpg", "deep/e.png", "deep/er/c.png"]


def test_a_file_may_have_any_ending(root):
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
def test_a_pattern_gives_its_matches(root, pattern, expected):
    assert names(root, pattern) == expected


@pytest.mark.parametrize(
    "pattern", ["**/d?ep*.png", "**/er?c.png", "**/er[!x]c.png", "**/[.*].png", "b.png/**", "*/*/*/*"]
)
def test_a_part_of_a_pattern_matches_one_path_part_only(root, pattern):
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
def test_an_unreadable_folder_is_listed_for_every_pattern(root, monkeypatch, pattern, expected):
    look = os.scandir

    def denied(path):
        if "deep" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert names(root, pattern) == expected


def test_an_existing_name_is_not_a_pattern(root, write_image):
    write_image(root / "scan[1]*.png")
    assert names(root, "scan[1]*.png") == ["scan[1]*.png"]


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", [".", "**/*.png"])
def test_loops_of_links_end_and_pipes_are_listed(root, pattern):
    for number in range(3):
        (root / "deep" / f"loop{number}").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    found = names(root, pattern)
    assert len(found) == len(set(found)) <= 12
    assert "pipe.png" in found


def test_missing_files_are_reported(root):
    with pytest.raises(BloodcellError, match="no such file or folder: images=.*absent"):
        names(root, "absent")
    for pattern in ("*.gif", "**/*.gif"):
        with pytest.raises(BloodcellError, match="matches no file"):
            names(root, pattern)


def test_files_are_found_one_by_one(root, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "walk", lambda folder, **_: (seen.append(n) or (folder, [], [n]) for n in "ab"))
    monkeypatch.setattr("bloodcell.data.folders.EXTENSIONS", ("",))
    assert next(iter(iter_image_paths([str(root)]))).endswith("a")
    assert seen == ["a"]
