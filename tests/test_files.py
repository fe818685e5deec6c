"""Files are written whole, and read back as they were."""

import os

import pandas as pd
import pytest

from bloodcell.runtime import locks
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import write_atomically, write_csv


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", " a ", "=1+2", "\u202e"])
def test_a_table_of_any_text_is_read_back_as_it_was(tmp_path, text):
    table = pd.DataFrame({"path": ["x", text], "number": [1, 2], text: ["y", "z"]})
    write_csv(table, tmp_path / "a.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv", keep_default_na=False), table, check_dtype=False)


def test_a_plain_table_has_no_quotes(tmp_path):
    write_csv(pd.DataFrame({"path": ["x"], "number": [0.5]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"path,number\nx,0.5\n"


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail(file):
        file.write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "a", fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_a_link_of_the_temporary_files_name_cannot_be_planted(tmp_path):
    (tmp_path / "precious").write_text("years")
    names = set()

    def write(file):
        names.add(file.name)
        file.write_text("new")

    for _ in range(20):
        write_atomically(tmp_path / "a", write)
    assert len(names) == 20
    (tmp_path / f".a.{os.getpid()}").symlink_to(tmp_path / "precious")
    write_atomically(tmp_path / "a", write)
    assert (tmp_path / "precious").read_text() == "years"


def test_a_link_is_no_lock(tmp_path):
    (tmp_path / "precious").write_text("years")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    assert locks.is_locked(tmp_path / ".lock")
    with pytest.raises(BloodcellError, match="is a link, and no lock"), locks.locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / "precious").read_text() == "years"
