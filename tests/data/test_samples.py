"""The samples table: sorted, relative, and the same after a round trip."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bloodcell.data.readers import read_imagefolder
from bloodcell.data.samples import (
    Samples,
    digest,
    read_samples,
    relative,
    samples_table,
    write_samples,
)
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture
def samples(class_folders):
    return read_imagefolder(str(class_folders({"train/a": 2, "train/b": 1, "test/b": 1, "test_simple/a": 1})))


def test_the_order_does_not_depend_on_the_order_of_reading():
    root = Path("/r")
    rows = [(root / f"{i}.png", "x", ("test", "", "val", "train", "test_simple")[i % 5], "") for i in range(20)]
    first, second = samples_table(rows, root), samples_table(rows[::-1], root)
    assert first.table.equals(second.table)
    assert list(dict.fromkeys(first.table["split"])) == ["", "train", "val", "test", "test_simple"]
    assert first.table["path"].tolist()[:4] == ["1.png", "11.png", "16.png", "6.png"]
    assert first.table.index.tolist() == list(range(20))


def test_no_row_and_a_row_twice_are_refused():
    with pytest.raises(BloodcellError, match=r"no images found in .*r"):
        samples_table([], Path("/r"))
    rows = [(Path("/r/a.png"), "x", "train", ""), (Path("/r/a.png"), "x", "test", "")]
    with pytest.raises(BloodcellError, match=r"a\.png is there twice"):
        samples_table(rows, Path("/r"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file name is text")
def test_a_file_name_that_is_not_text_is_refused():
    with pytest.raises(BloodcellError, match=r"the file name a/\\udcff\.png in .* is not valid UTF-8; rename"):
        samples_table([(Path("/r", "a", os.fsdecode(b"\xff.png")), "a", "", "")], Path("/r"))


def test_splits_and_known_sources(samples):
    assert samples.splits() == ["train", "test", "test_simple"]
    part = samples.of_split("test", "test_simple")
    assert part.table["path"].tolist() == ["test/b/0.png", "test_simple/a/0.png"]
    assert part.table.index.tolist() == [0, 1]
    assert part.root == samples.root
    assert not samples.sources_known()
    assert replace(samples, table=samples.table.assign(source="s")).sources_known()
    partly = samples.table.assign(source=["s", "", "s", "s", "s"])
    assert not replace(samples, table=partly).sources_known()
    assert not samples.of_split("val").sources_known()


def test_a_path_outside_the_root_is_absolute(tmp_path):
    assert relative(tmp_path / "a" / "b.png", tmp_path) == "a/b.png"
    assert relative(tmp_path / "b.png", tmp_path / "a") == (tmp_path / "b.png").as_posix()


def test_round_trip(samples, tmp_path):
    odd = samples.table.assign(label=["NA", "null", "1", "é,ü", 'a "b"'])
    write_samples(Samples(odd, samples.root), tmp_path / "samples.csv")
    read = read_samples(tmp_path / "samples.csv")
    assert read.table.to_numpy().tolist() == odd.to_numpy().tolist()
    assert read.root == samples.root
    assert read_samples(tmp_path / "samples.csv", "/moved").root == Path("/moved")
    content = (tmp_path / "samples.csv").read_bytes()
    assert b"\r" not in content
    (tmp_path / "samples.csv").write_bytes(b"\xef\xbb\xbf" + content)  # after a spreadsheet saved it
    assert read_samples(tmp_path / "samples.csv").table.equals(read.table)


def test_a_file_without_the_column_set_is_of_one_data_set(samples, tmp_path):
    write_samples(Samples(samples.table.drop(columns="set"), samples.root), tmp_path / "samples.csv")
    read = read_samples(tmp_path / "samples.csv")
    assert read.table.equals(samples.table)
    assert read.sets() == []


def test_rows_and_sources_of_joined_sets(samples):
    sources = ["b/x", "", "a/x", "", "b/y"]
    joined = replace(samples, table=samples.table.assign(set=["b", "b", "a", "a", "b"], source=sources))
    assert joined.sets() == ["b", "a"]
    assert joined.of_set("a").table["path"].tolist() == ["train/b/0.png", "test/b/0.png"]
    assert joined.source_names() == {"b/x", "a/x", "b/y", "", "x", "y"}
    assert samples.source_names() == {""}


def test_the_digest_changes_with_any_row_and_any_file(samples):
    before = digest(samples)
    assert before == digest(Samples(samples.table.copy(), samples.root))
    assert len(before) == 16
    assert int(before, 16) >= 0
    for column in ("label", "split", "source"):
        changed = samples.table.copy()
        changed.loc[2, column] = "other"
        assert digest(Samples(changed, samples.root)) != before
    file = samples.files()[0]
    file.write_bytes(file.read_bytes() + b"x")
    assert digest(samples) != before
