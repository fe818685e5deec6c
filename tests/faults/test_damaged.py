"""What a broken disk or a hand may have left: one clear line that says what to do, or the right result all the same."""

import shutil
import sys

import pytest

from bloodcell import cli
from bloodcell.runtime import run_folder
from bloodcell.training.train import train
from tests.conftest import QUICK, SMALL
from tests.test_training import assert_same_run, plug_pulled


@pytest.fixture(scope="module")
def interrupted(compose, tmp_path_factory):
    """Return a whole run, and the same one that failed in its third epoch."""
    folder = tmp_path_factory.mktemp("interrupted")
    cfg = compose(*QUICK, *SMALL, "finetune=full", "trainer.max_epochs=4", "logger=none", f"outputs={folder}")
    train(cfg, folder / "whole")
    with plug_pulled(2):
        train(cfg, folder / "broken")
    return folder


@pytest.fixture
def verb(monkeypatch, capsys):
    """Run a verb in this process: verb("train", "a=1") -> (exit code, standard error)."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        code = 0
        try:
            cli.main(name)
        except SystemExit as end:
            code = end.code
        return code, [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]

    return run


def half(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file):
    file.write_bytes(b"")


def gone(file):
    file.unlink()


def noise(file):
    file.write_bytes(bytes(range(256)) * 9)


@pytest.mark.parametrize("damage", [half, emptied, gone])
@pytest.mark.parametrize("name", ["history.csv", "samples.csv", "run.json", "checkpoints/best.ckpt"])
def test_a_run_goes_on_to_the_same_end(interrupted, verb, fault, tmp_path, name, damage):
    folder = tmp_path / "run"
    shutil.copytree(interrupted / "broken", folder)
    damage(folder / name)
    if name == "run.json":  # whether the run had finished is no longer known
        code, lines = verb("train", f"resume={folder}")
        assert code == 1
        assert "no run there" in lines[0]
        assert len(lines) == 1
    else:
        assert verb("train", f"resume={folder}") == (0, [])
        if name == "checkpoints/best.ckpt":  # of an epoch before: a better one came, or the last is all there is
            assert (folder / "history.csv").read_bytes() == (interrupted / "whole" / "history.csv").read_bytes()
        else:
            assert_same_run(interrupted / "whole", folder)
        assert run_folder.read_run(folder)["status"] == "finished"
    fault(f"damaged before resuming: {name}")


@pytest.mark.parametrize("damage", [half, emptied, noise])
def test_a_damaged_checkpoint_is_named_and_without_it_the_run_begins_again(interrupted, verb, fault, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(interrupted / "broken", folder)
    damage(folder / "checkpoints" / "last.ckpt")
    code, lines = verb("train", f"resume={folder}")
    assert code == 1
    assert len(lines) == 1
    assert "last.ckpt" in lines[0]
    assert "delete it" in lines[0]
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert verb("train", f"resume={folder}") == (0, [])
    assert_same_run(interrupted / "whole", folder)
    fault("damaged before resuming: checkpoints/last.ckpt")


@pytest.mark.parametrize("damage", [half, emptied, noise])
def test_a_damaged_configuration_is_named(interrupted, verb, fault, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(interrupted / "broken", folder)
    damage(folder / "config.yaml")
    code, lines = verb("train", f"resume={folder}")
    assert code == 1
    assert len(lines) == 1
    assert "config.yaml" in lines[0]
    assert "begin a new run" in lines[0]
    fault("damaged before resuming: config.yaml")


@pytest.mark.parametrize("damage", [half, emptied, noise])
def test_a_prediction_with_a_damaged_state_begins_again_where_it_is_told_to(
    interrupted, verb, fault, tmp_path, damage, write_image
):
    for number in range(9):
        write_image(tmp_path / "pictures" / f"{number}.png", seed=number)
    own = [f"checkpoint={interrupted / 'whole'}", f"images={tmp_path / 'pictures'}", "device=cpu"]
    assert verb("predict", *own, f"output={tmp_path / 'whole.csv'}")[0] == 0
    (tmp_path / "t.csv").write_bytes((tmp_path / "whole.csv").read_bytes()[:300])
    (tmp_path / "t.state.json").write_text('{"settings": {}, "items": 2, "seen": "", "sizes": [300, 0], "counts": {}}')
    damage(tmp_path / "t.state.json")
    code, lines = verb("predict", *own, f"output={tmp_path / 't.csv'}")
    assert code == 1
    assert len(lines) == 1
    assert "overwrite=true begins again" in lines[0]
    assert verb("predict", *own, f"output={tmp_path / 't.csv'}", "overwrite=true")[0] == 0
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    fault("damaged before resuming: FILE.state.json")


@pytest.mark.parametrize(
    "pattern",
    ["checks/*.db", "features/*/chunk-*.npy", "features/*/chunk-*.json", "features/*/about.json",
     "audits/*.csv", "test_reads.csv", "synthetic/*/smears.json"],
)  # fmt: skip
def test_a_damaged_cache_is_made_anew(verb, fault, tmp_path, pattern):
    own = [*QUICK, *SMALL, "trainer.max_epochs=1", "logger=none", "evaluate.figures=false", "features.backend=eager"]
    own += [f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}"]
    if pattern.startswith("audits"):
        assert verb("audit", *SMALL, *own[-2:])[0] == 0
    assert verb("train", *own, f"hydra.run.dir={tmp_path / 'whole'}") == (0, [])
    for damage in (half, noise):
        files = list((tmp_path / "cache").glob(pattern))
        assert files
        for file in files:
            damage(file)
        code, lines = verb("train", *own, f"hydra.run.dir={tmp_path / damage.__name__}")
        if pattern.startswith("audits"):  # what it held may decide who is on which side: it is not passed over
            assert code == 1
            assert len(lines) == 1
            assert "audit again" in lines[0]
        else:
            assert (code, lines) == (0, [])
            assert_same_run(tmp_path / "whole", tmp_path / damage.__name__)
        fault("damaged in the cache")
