"""Tables of images: the samples that they list, or at most three lines; nothing is guessed or waits for ever."""

import os
import sys

import pytest

from bloodcell.data.readers import read_table
from tests.conftest import QUICK

pytestmark = [pytest.mark.inputs, pytest.mark.timeout(60, func_only=True)]

COLUMNS = {"path_column": "path", "label_column": "label", "group_column": "group", "split_column": "split"}
FOUR = "a/0.png,a\na/1.png,a\nb/0.png,b\nb/1.png,b\n"
TRAIN, TEST = (FOUR.replace("\n", f",{split}\n") for split in ("train", "test"))

#: What a table is -> its content, {root} standing for the folder of images, and the words of the refusal.
REFUSED = {
    "nothing": (b"", "it is empty"),
    "a header alone": (b"path,label\n", "lists no image"),
    "blank lines": (b"\n\n\n", "it is empty"),
    "no column of paths": (b"file,label\na/0.png,a\n", "no column 'path'; it has file, label"),
    "no column of labels": (b"path,class\na/0.png,a\n", "no column 'label'; it has path, class"),
    "no header": (FOUR.encode(), "no column 'path'"),
    "a column twice": (b"path,label,label\na/0.png,a,b\n", "has the column 'label' twice"),
    "semicolons and commas": (b"path;label,x\na/0.png;a\n", "no column 'path'; it has path;label, x"),
    "a misspelt column": (b"path,label,splitt\na/0.png,a,test\n", "the column 'splitt', and no 'split'"),
    "Latin-1": ("path,label\n\xe4.png,a\n".encode("latin-1"), "is no CSV file: .*utf-8"),
    "UTF-16": (f"path,label\n{FOUR}".encode("utf-16"), "is no CSV file"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "is no CSV file|no column 'path'"),
    "zero bytes": (b"\0" * 1000, "is no CSV file|no column 'path'|lists no image"),
    "an HTML page": (b"<html>\n<body>404, not found, sorry</body>\n</html>", "is no CSV file|no column 'path'"),
    "a quote that never ends": (f'path,label\n"a/0.png,a\n{FOUR}'.encode(), "is no CSV file"),
    "a row that is longer than the header": (b"path,label\na/0.png,a,extra\n", "is no CSV file: .*saw 3"),
    "a path twice": (f"path,label\n{FOUR}a/0.png,b\n".encode(), "a/0.png is there twice"),
    "a path twice, written otherwise": (f"path,label\n{FOUR}a/../a/0.png,b\n".encode(), "is there twice"),
    "a row without a label": (b"path,label\na/0.png,a\na/1.png,\n", "row 3: no label"),
    "a row without a path": (b"path,label\na/0.png,a\n,b\n", "row 3: no path"),
    "a label of spaces": (b"path,label\na/0.png,   \n", "row 2: no label"),
    "a split that is misspelt": (
        b"path,label,split\na/0.png,a,trian\n",
        "unknown split 'trian'; use train, val or test",
    ),
    "images that are not there": (
        f"path,label\n{FOUR}gone.png,a\n".encode(),
        "1 of 5 images cannot be read, e.g. gone.png",
    ),
    "identities in place of paths": (
        b"path,label\n17,a\n18,a\n19,b\n20,b\n",
        "4 of 4 images cannot be read, e.g. 17: no such",
    ),
    "addresses": (f"path,label\n{FOUR}http://localhost/a.png,a\n".encode(), "cannot be read, e.g. http"),
    "a path that leaves the folder": (
        f"path,label\n{FOUR}../../../../../../../etc/passwd,a\n".encode(),
        "cannot be read",
    ),
    "a path with a zero byte": (f"path,label\n{FOUR}a\0b.png,a\n".encode(), "cannot be read|is no CSV file"),
    "a path of a million letters": (
        f"path,label\n{FOUR}{'x' * 1_000_000},a\n".encode(),
        "cannot be read, e.g. x+\\.\\.\\.",
    ),
    "a device as an image": (f"path,label\n{FOUR}/dev/zero,a\n".encode(), "e.g. /dev/zero: not a regular file"),
    "one class": (b"path,label\na/0.png,a\na/1.png,a\n", "at least two classes; it has a"),
    "a class in the test part alone": (
        f"path,label,split\n{TRAIN}c/0.png,c,test\n".encode(),
        "class c is in the test part but not in training",
    ),
    "a test part alone": (f"path,label,split\n{TEST}".encode(), "at least two classes; it has none"),
}

RIGHT = {
    "a byte order mark": b"\xef\xbb\xbfpath,label\n" + FOUR.encode(),
    "line ends of Windows": f"path,label\n{FOUR}".replace("\n", "\r\n").encode(),
    "line ends of old Macs": f"path,label\n{FOUR}".replace("\n", "\r").encode(),
    "no line end at its end": f"path,label\n{FOUR}".rstrip().encode(),
    "blank lines and blanks": f"path, label \n\n{FOUR.replace(',', ', ')}\n\n".encode(),
    "semicolons": f"path;label\n{FOUR}".replace(",", ";").encode(),
    "tabulators": f"path,label\n{FOUR}".replace(",", "\t").encode(),
    "capitals and blanks in names": f" Path ,LABEL\n{FOUR}".encode(),
    "blanks before paths": b"label, path\na, a/0.png\na, a/1.png\nb, b/0.png\nb,  b/1.png\n",
    "quotes": f'"path","label"\n{FOUR.replace("a/0.png", chr(34) + "a/0.png" + chr(34))}'.encode(),
    "columns of no use": (
        "id,path,label,note\n" + FOUR.replace("a/", "7,a/").replace("b/", "8,b/").replace("\n", ",x\n")
    ).encode(),
    "backslashes in paths": f"path,label\n{FOUR.replace('/', chr(92))}".encode(),
    "absolute paths": f"path,label\n{FOUR.replace('a/', '{root}/a/')}".encode(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_table_is_refused(kind, class_folders, tmp_path, refused):
    root = class_folders({"a": 2, "b": 2, "c": 1})
    content, words = REFUSED[kind]
    (tmp_path / "table.csv").write_bytes(content)
    refused(
        "tables of images",
        words,
        "train",
        *QUICK,
        "data=table",
        f"data.table={tmp_path / 'table.csv'}",
        f"data.root={root}",
    )


@pytest.mark.parametrize("kind", RIGHT)
def test_an_odd_table_is_read(kind, class_folders, tmp_path, count):
    root = class_folders({"a": 2, "b": 2})
    (tmp_path / "table.csv").write_bytes(RIGHT[kind].replace(b"{root}", str(root).encode()))
    samples = read_table(str(tmp_path / "table.csv"), str(root), **COLUMNS)
    assert samples.table[["path", "label"]].to_numpy().tolist() == [line.split(",") for line in FOUR.split()]
    assert all(file.is_file() for file in samples.files())
    count("tables of images", "right")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of POSIX")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "no regular file"),
        ("device", "no regular file"),
        ("folder", "Is a directory"),
        ("gone", "No such file"),
        ("closed", "Permission denied"),
    ],
)
def test_a_table_that_is_no_file(kind, words, tmp_path, refused, as_nobody, count):
    file = tmp_path / "table.csv"
    make = {
        "pipe": lambda: os.mkfifo(file),
        "device": lambda: file.symlink_to("/dev/zero"),
        "folder": file.mkdir,
        "gone": lambda: None,
        "closed": lambda: (file.write_text("path,label\n"), file.chmod(0)),
    }
    make[kind]()
    if kind == "closed":
        assert words in as_nobody(lambda: read_table(str(file), None, **COLUMNS))
        count("tables of images", "refused")
    else:
        refused("tables of images", words, "train", *QUICK, "data=table", f"data.table={file}")
