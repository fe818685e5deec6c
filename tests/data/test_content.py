"""Files are known by their content, whatever their name, folder and time."""

import os
import shutil
import time

import pytest

from bloodcell.data import content
from bloodcell.data.content import content_ids


@pytest.fixture
def files(tmp_path):
    """Return two files of one size that were written some time ago."""
    (tmp_path / "in").mkdir()
    made = [tmp_path / "in" / name for name in ("a", "b")]
    for file, text in zip(made, ("first", "other"), strict=True):
        file.write_text(text)
    time.sleep(0.05)
    return made


@pytest.fixture
def read(monkeypatch):
    """Forget what this process knows; return the list of files that are read from now on."""
    monkeypatch.setattr(content, "_known", {})
    monkeypatch.setattr(content, "SETTLED", 0.02)
    found, original = [], content._content
    monkeypatch.setattr(content, "_content", lambda file: (found.append(str(file)), original(file))[1])
    return found


def test_the_content_is_that_of_the_bytes(files, tmp_path, read):
    first, other = content_ids(files)
    assert first != other
    shutil.copy(files[0], tmp_path / "copy")
    os.utime(tmp_path / "copy", ns=(1, 1))
    assert content_ids([tmp_path / "copy", str(files[1])]) == [first, other]


def test_a_file_that_cannot_be_read_is_no_other(tmp_path, files):
    gone, also = content_ids([tmp_path / "gone", tmp_path / "in"])
    assert gone == f"{tmp_path / 'gone'}|unreadable"
    assert also == f"{tmp_path / 'in'}|unreadable"


def test_a_file_is_read_once_even_if_it_moves(files, tmp_path, read, monkeypatch):
    before = content_ids(files, tmp_path / "cache")
    assert len(read) == 2
    monkeypatch.setattr(content, "_known", {})  # another process
    (tmp_path / "in").rename(tmp_path / "moved")
    assert content_ids([tmp_path / "moved" / name for name in ("a", "b")], tmp_path / "cache") == before
    assert len(read) == 2


def test_two_files_that_are_swapped_keep_their_contents(files, tmp_path, read):
    first, other = content_ids(files, tmp_path / "cache")
    files[0].rename(tmp_path / "in" / "c")
    files[1].rename(files[0])
    (tmp_path / "in" / "c").rename(files[1])
    assert content_ids(files, tmp_path / "cache") == [other, first]


def test_a_file_that_is_written_again_at_the_same_size_and_time_is_read_again(files, tmp_path, read):
    first, _ = content_ids(files, tmp_path / "cache")
    times = files[0].stat().st_atime_ns, files[0].stat().st_mtime_ns
    files[0].write_text("third")
    os.utime(files[0], ns=times)
    assert content_ids(files[:1], tmp_path / "cache") != [first]


def test_a_file_that_was_just_written_is_not_kept(files, tmp_path, read, monkeypatch):
    monkeypatch.setattr(content, "SETTLED", 60)
    for _ in range(2):
        content_ids(files, tmp_path / "cache")
    assert len(read) == 4


@pytest.mark.parametrize("damage", [b"", b"no database at all " * 100])
def test_a_damaged_cache_is_begun_anew(files, tmp_path, read, monkeypatch, damage):
    before = content_ids(files, tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "contents").iterdir()
    kept.write_bytes(damage)
    for _ in range(2):
        monkeypatch.setattr(content, "_known", {})
        assert content_ids(files, tmp_path / "cache") == before
        assert len(read) == 4


def test_a_cache_that_cannot_be_written_costs_only_time(files, tmp_path, read, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "contents").write_text("a file where a folder should be")
    for count in (2, 4):
        monkeypatch.setattr(content, "_known", {})
        content_ids(files, tmp_path / "cache")
        assert len(read) == count
