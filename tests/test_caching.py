"""The verb `cache`: everything that is kept is listed and can be cleared, and nothing else."""

import subprocess
import sys

import pytest

from bloodcell.runtime import locks
from bloodcell.runtime.cache import KINDS, entries, run
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.train import train
from tests.conftest import QUICK, SMALL


@pytest.fixture(scope="module")
def root(compose, tmp_path_factory):
    """Return a cache root that a run has filled."""
    folder = tmp_path_factory.mktemp("kept")
    overrides = (*QUICK, *SMALL, f"cache.root={folder / 'cache'}", f"outputs={folder}", "trainer.max_epochs=1")
    overrides = (*overrides, "evaluate.tta=flips", "evaluate.figures=false")  # more rows, of the same images
    train(compose(*overrides), folder / "run")
    return folder / "cache"


def cache(root, *arguments):
    command = [sys.executable, "-m", "bloodcell", "cache", f"cache.root={root}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=root.parent)


def test_every_folder_that_a_run_leaves_is_known(root):
    assert {path.name for path in root.iterdir() if path.is_dir()} <= set(KINDS)
    assert {entry.kind for entry in entries(root)} >= {"features", "synthetic", "checks"}


def test_the_list_says_what_the_features_are_of(root):
    said = cache(root)
    assert said.returncode == 0, said.stderr
    text = " ".join(said.stdout.split())
    assert "96 images" in text
    assert "mobilenet_v2" in text
    assert not (root.parent / "outputs").exists()


def test_clearing_takes_what_was_asked_for_and_keeps_the_record(root):
    refused = cache(root, "clear=featurs")
    assert refused.returncode == 1
    assert "nothing of that name is kept; choose all, features" in refused.stderr
    kept = {entry.kind for entry in entries(root)}
    assert cache(root, "clear=features").returncode == 0
    assert {entry.kind for entry in entries(root)} == kept - {"features"}
    assert "cleared" in cache(root, "clear=all").stdout
    assert entries(root) == []
    assert (root / "test_reads.csv").is_file()
    assert "nothing is kept" in cache(root).stdout


def test_one_entry_by_its_name(compose, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "features" / name).mkdir(parents=True)
        (tmp_path / "features" / name / "chunk-1.npy").write_bytes(b"12345")
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "x.json").write_text("{}")
    kept = entries(tmp_path)
    assert sorted((entry.path.name, entry.size) for entry in kept) == [("one", 5), ("two", 5), ("x.json", 2)]
    run(compose(f"cache.root={tmp_path}", "clear=two", verb="cache"))
    assert [entry.path.name for entry in entries(tmp_path)] == ["one", "x.json"]
    with pytest.raises(BloodcellError, match="clear=three"):
        run(compose(f"cache.root={tmp_path}", "clear=three", verb="cache"))


def test_nothing_is_cleared_while_another_command_works(tmp_path):
    (tmp_path / "cache" / "probes").mkdir(parents=True)
    (tmp_path / "cache" / "probes" / "a.json").write_text("{}")
    (tmp_path / "cache" / ".use-0123").touch()  # of a killed command
    with locks.in_use(tmp_path / "cache"):
        refused = cache(tmp_path / "cache", "clear=all")
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: 1 other command at work with")
        assert cache(tmp_path / "cache").returncode == 0
    assert "cleared 1 of 1 entries" in cache(tmp_path / "cache", "clear=all").stdout
    assert [file.name for file in (tmp_path / "cache").iterdir() if file.is_file()] == [".use.lock"]


def test_a_study_uses_the_cache(compose, tmp_path, monkeypatch):
    from bloodcell.tuning import storage
    from bloodcell.tuning.tune import tune

    def clear():
        raise BloodcellError(cache(tmp_path / "cache", "clear=all").stderr)

    monkeypatch.setattr(storage, "require_optuna", clear)  # it is the first thing that a study does
    with pytest.raises(BloodcellError, match="1 other command at work with"):
        tune(compose(f"cache.root={tmp_path / 'cache'}", verb="tune"), tmp_path / "study", [])


def test_letters_that_the_terminal_cannot_show_are_no_reason_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    said = cache(tmp_path / "Клетки")
    assert said.returncode == 0, said.stderr
    assert "nothing is kept in" in said.stdout
    assert "\\u041a" in said.stdout
