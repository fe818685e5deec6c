"""Files are written whole, and read back as they were."""

import pandas as pd
import pytest

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
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - any
        write_atomically(tmp_path / "a", fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]
