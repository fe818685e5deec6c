"""Folders of images as people leave them: the classes that they mean, or at most three lines."""

import os
import re
import sys

import pytest

from bloodcell.data.image_paths import iter_image_paths
from bloodcell.data.readers import read_imagefolder
from tests.conftest import QUICK

pytestmark = [
    pytest.mark.inputs,
    pytest.mark.timeout(60, func_only=True),
    pytest.mark.skipif(sys.platform == "win32", reason="names, links and rights of POSIX"),
]

#: What a folder is -> its classes and how many images they have, and the words of the refusal.
REFUSED = {
    "empty": ({}, "no class folders in"),
    "images without class folders": ({".": 4}, "no class folders in"),
    "one class": ({"a": 5}, "at least two classes; it has a"),
    "all classes but one empty": ({"a": 5, "b": 0, "c": 0}, "at least two classes; it has a"),
    "all classes empty": ({"a": 0, "b": 0}, "no images found"),
    "hidden classes alone": ({".a": 3, "__b": 3}, "no class folders in"),
    "a folder of folders of classes": (
        {"set/a": 3, "set/b": 3},
        "set in .*: no class, but by the name .*give data.root=.*/set$",
    ),
    "two folders of one split": ({"train/a": 2, "train/b": 2, "val/a": 1, "Validation/a": 1}, "both mean the val part"),
    "a class that training lacks": (
        {"train/a": 2, "train/b": 2, "test/c": 1},
        "class c is in the test part but not in",
    ),
    "a test part alone": ({"test/a": 3, "test/b": 3}, "at least two classes; it has none"),
    "one image a class": ({"a": 1, "b": 1}, "no validation images|val"),
}
RIGHT = {
    "one image in a class": ({"a": 9, "b": 1}, {"a": 9, "b": 1}),
    "an empty class": ({"a": 3, "b": 3, "c": 0}, {"a": 3, "b": 3}),
    "classes below classes": ({"a/x": 2, "a/y": 1, "b": 2}, {"a": 3, "b": 2}),
    "hidden folders and folders of systems": (
        {"a": 2, "b": 2, ".git": 3, "__MACOSX": 2, "a/.thumbs": 2},
        {"a": 2, "b": 2},
    ),
    "names that differ in letter case": ({"Cell": 2, "cell": 3}, {"Cell": 2, "cell": 3}),
    "names with spaces, quotes and other letters": ({"a b": 1, "it's": 1, "ä細": 1}, {"a b": 1, "it's": 1, "ä細": 1}),
    "a class named as an image": ({"x.jpg": 2, "b": 2}, {"x.jpg": 2, "b": 2}),
    "a class of a number": ({"0": 2, "1": 3}, {"0": 2, "1": 3}),
    "classes named null and true": ({"null": 2, "true": 3}, {"null": 2, "true": 3}),
    "markup": ({"<script>": 2, "=1+1": 1}, {"<script>": 2, "=1+1": 1}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_cannot_train(kind, class_folders, refused):
    counts, words = REFUSED[kind]
    root = class_folders(counts)
    root.mkdir(exist_ok=True)
    refused("folders", words, "train", *QUICK, "data=imagefolder", f"data.root={root}")


@pytest.mark.parametrize("kind", RIGHT)
def test_a_folder_that_is_odd(kind, class_folders, count):
    counts, expected = RIGHT[kind]
    root = class_folders(counts)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "a/._0.png", "a/notes.txt"):
        if (root / name).parent.is_dir():
            (root / name).write_bytes(b"\0\0\0\1Bud1")
    assert read_imagefolder(str(root)).table["label"].value_counts().to_dict() == expected
    count("folders", "right")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gone", "no such folder"),
        ("a file", "no such folder"),
        ("a link to itself", "no such folder"),
        ("nothing", "data.root is not set"),
        ("a file name that is no UTF-8", "not valid UTF-8; rename the file"),
        ("a class name that is no UTF-8", "not valid UTF-8; rename the file"),
    ],
)
def test_what_is_no_folder(kind, words, class_folders, write_image, tmp_path, refused):
    root = tmp_path / "root"
    if kind == "a file":
        root.write_text("")
    elif kind == "a link to itself":
        root.symlink_to(root)
    elif kind.endswith("UTF-8"):
        class_folders({"a": 2, "b": 2}, root)
        odd = os.fsdecode(b"\xe4.png") if kind.startswith("a file") else os.fsdecode(b"\xe4/0.png")
        write_image(root / "a" / odd if kind.startswith("a file") else root / odd)
    given = "" if kind == "nothing" else root
    refused("folders", words, "train", *QUICK, "data=imagefolder", f"data.root={given}")


def test_a_folder_that_may_not_be_read(class_folders, as_nobody, count):
    root = class_folders({"a": 2, "b": 2})
    for folder, words in (
        (root / "b", "cannot read the folder .*b.*Permission denied"),
        (root, "cannot read the folder"),
    ):
        folder.chmod(0)
        said = as_nobody(lambda: read_imagefolder(str(root)))
        folder.chmod(0o755)
        assert re.search(words, said), said
        count("folders", "refused")


@pytest.mark.parametrize("pattern", ["", "*/*.png", "**/*.png", "b/*", "*/sub/*.png"])
def test_a_pattern_that_leads_where_one_may_not_look(pattern, class_folders, as_nobody):
    root = class_folders({"a/sub": 1, "b/sub": 1})
    (root / "b").chmod(0)
    said = as_nobody(lambda: [name.removeprefix(f"{root}/") for name in iter_image_paths([str(root / pattern)])])
    (root / "b").chmod(0o755)
    assert "'b'" in said, said


def test_loops_of_links_end(class_folders, count):
    root = class_folders({"a": 2, "b": 2})
    (root / "a" / "loop").symlink_to(root)
    (root / "b" / "itself").symlink_to(root / "b" / "itself")
    (root / "b" / "other").symlink_to(root / "a")
    samples = read_imagefolder(str(root))
    assert samples.table["path"].is_unique
    assert len({file.resolve() for file in samples.files()}) == 4
    count("folders", "right")
