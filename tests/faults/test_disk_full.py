"""A full disk: one clear line, what was done before is whole, and with room again the same command comes to its end."""

import json

import pytest
import torch

from bloodcell.inference.feature_store import FeatureStore
from bloodcell.models.weights import write_checkpoint
from bloodcell.runtime import run_folder
from tests.faults.conftest import LEAN, contents
from tests.test_training import assert_same_run

FULL = (1, "error: no space left on the disk", "make room")


@pytest.mark.parametrize("extra", [[], ["logger=tensorboard"]], ids=["alone", "tensorboard"])
def test_train(start, fault, tmp_path, disk, small, smears_of, extra):
    own = [*LEAN, "finetune=full", "trainer.max_epochs=3", *extra, *smears_of(small, 6, 2, 3)]
    own += [f"cache.root={tmp_path / 'cache'}"]
    start("train", *own, f"outputs={tmp_path}", f"hydra.run.dir={tmp_path / 'whole'}").end().assert_well()
    size = (tmp_path / "whole" / "checkpoints" / "last.ckpt").stat().st_size
    folder = disk.folder / "run"
    disk.fill(leaving=int(2.5 * size))
    start("train", *own, f"outputs={disk.folder}", f"hydra.run.dir={folder}").end().assert_one_line(*FULL)
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert run_folder.read_run(folder)["status"] != "finished"
    assert not [file for file in folder.rglob(".*") if file.name != ".lock"]
    disk.make_room()
    start("train", f"resume={folder}").end().assert_well()
    assert_same_run(tmp_path / "whole", folder)
    fault("disk full: train, at a checkpoint")


@pytest.mark.parametrize("leaving", [0, 4096, 24_000])
def test_train_that_cannot_begin_or_end(start, fault, tmp_path, disk, small, smears_of, trained, leaving):
    own = [*LEAN, *smears_of(small, 6, 2, 3), f"cache.root={tmp_path / 'cache'}", "outputs=outputs"]
    folder = disk.folder / "run"
    disk.fill(leaving)
    start("train", *own, f"hydra.run.dir={folder}").end().assert_one_line(*FULL)
    disk.make_room()
    again = [f"resume={folder}"] if (folder / "config.yaml").exists() else [*own, f"hydra.run.dir={folder}"]
    start("train", *again).end().assert_well()
    assert_same_run(trained, folder)
    fault("disk full: train, at its tables")


def test_a_checkpoint(fault, disk):
    content = {"state_dict": {"weight": torch.arange(100_000)}}
    file = disk.folder / "last.ckpt"
    write_checkpoint(content, file)
    disk.fill(leaving=500_000)
    with pytest.raises(OSError, match="No space left on device"):
        write_checkpoint({"state_dict": {"weight": torch.zeros(200_000)}}, file)  # 800 kB
    assert torch.equal(torch.load(file)["state_dict"]["weight"], torch.arange(100_000))
    assert sorted(left.name for left in disk.folder.iterdir()) == ["ballast", "last.ckpt"]
    fault("disk full: a checkpoint")


def test_predict(start, fault, tmp_path, disk, trained, crowd):
    own = [f"checkpoint={trained}", f"images={crowd}", "device=cpu", "features.backend=eager"]
    start("predict", *own, f"output={tmp_path / 'whole.csv'}").end().assert_well()
    file = disk.folder / "table.csv"
    disk.fill(leaving=300_000)
    start("predict", *own, f"output={file}").end().assert_one_line(*FULL)
    state = json.loads((disk.folder / "table.state.json").read_text())
    assert 0 < state["items"] < 6000
    start("predict", *own, f"output={file}").end().assert_one_line(*FULL)  # nothing has changed, and nothing is lost
    assert json.loads((disk.folder / "table.state.json").read_text())["items"] >= state["items"]
    disk.make_room()
    start("predict", *own, f"output={file}").end().assert_well()
    assert file.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    fault("disk full: predict", 2)


@pytest.mark.parametrize("where", ["cache", "outputs"])
def test_audit(start, fault, tmp_path, disk, painted, where):
    own = ["data=imagefolder", f"data.root={painted / 'images'}"]
    tables = ("sources.csv", "leaks.csv", "conflicts.csv", "duplicates.csv", "verdict.txt", "report.html")

    def audit(cache, outputs):
        return start("audit", *own, f"cache.root={cache}", f"outputs={outputs}").end()

    def results(outputs):
        (page,) = outputs.rglob("report.html")
        return contents(page.parent, *tables)

    audit(tmp_path / "whole-cache", tmp_path / "whole").assert_well()
    folders = {"cache": tmp_path / "cache", "outputs": tmp_path / "outputs", where: disk.folder / where}
    disk.fill(leaving=16_000_000 if where == "cache" else 20_000)  # a chunk of key points has 11 MB
    audit(*[folders[name] for name in ("cache", "outputs")]).assert_one_line(*FULL)
    kept = list((folders["cache"] / "audit-progress").rglob("*.npy"))
    assert len([file for file in kept if file.name.startswith("features")]) == (1 if where == "cache" else 2)
    assert not list((folders["cache"] / "audit-progress").rglob(".*"))
    disk.make_room()
    other = tmp_path / "outputs-again"
    audit(folders["cache"], other).assert_well()
    assert results(other) == results(tmp_path / "whole")
    fault(f"disk full: audit, {where}")


def test_cache_writing(start, fault, tmp_path, disk, crowd):
    own = [*LEAN, "data=imagefolder", f"data.root={crowd}", "trainer.max_epochs=1", "data.leak_check=off"]

    def train(cache, name):
        own_folders = [f"cache.root={cache}", f"outputs={tmp_path}", f"hydra.run.dir={tmp_path / name}"]
        return start("train", *own, *own_folders).end()

    train(tmp_path / "cache", "whole").assert_well()
    disk.fill(leaving=16_000_000)  # a chunk of features has 10.5 MB
    train(disk.folder / "cache", "full").assert_one_line(*FULL)
    (folder,) = (disk.folder / "cache" / "features").iterdir()
    store = FeatureStore(folder)
    assert (store.places(list(store.place_of)) >= 0).sum() == 2048
    assert len(list(folder.iterdir())) == 3  # the chunk, its index, about.json: nothing half-written
    disk.make_room()
    train(disk.folder / "cache", "again").assert_well()
    assert_same_run(tmp_path / "whole", tmp_path / "again")
    fault("disk full: cache writing")


def test_painting(start, fault, tmp_path, disk, trained):
    own = [*LEAN, "data.reader.train_photographs=6", "data.reader.test_photographs=2", "data.reader.copies=3"]
    own += [f"cache.root={disk.folder}", f"outputs={tmp_path}"]
    disk.fill(leaving=400_000)
    ended = start("train", *own, f"hydra.run.dir={tmp_path / 'run'}").end()
    ended.assert_one_line(1, "error: cannot write synthetic smears", "No space left")
    assert [file.name for file in (disk.folder / "synthetic").iterdir()] == []
    disk.make_room()
    start("train", *own, f"hydra.run.dir={tmp_path / 'again'}").end().assert_well()
    fault("disk full: cache writing, painted smears")


def test_evaluate(start, fault, tmp_path, disk, trained):
    own = [f"checkpoint={trained}", f"cache.root={tmp_path / 'cache'}", "device=cpu"]
    start("evaluate", *own, f"outputs={tmp_path}", f"hydra.run.dir={tmp_path / 'whole'}").end().assert_well()
    for leaving in (0, 6_000, 60_000):
        disk.fill(leaving)
        start("evaluate", *own, f"outputs={disk.folder}").end().assert_one_line(*FULL)
        disk.make_room()
        fault("disk full: evaluate")
    start("evaluate", *own, f"outputs={disk.folder}", f"hydra.run.dir={disk.folder / 'again'}").end().assert_well()
    names = ("predictions.csv", "metrics.json")
    assert contents(tmp_path / "whole", *names) == contents(disk.folder / "again", *names)
