"""SIGKILL at random moments, and the same command again: the result is that of an undisturbed run."""

import pytest

from bloodcell.runtime.run_folder import read_run
from tests.faults.conftest import LEAN, Job, contents, killed, run_folders
from tests.test_training import assert_same_run

FINETUNED = (
    "finetune=full", "augment=light", "scheduler=cosine", "logger=tensorboard", "callbacks=ema",
    "evaluate.figures=true", "trainer.max_epochs=6",
)  # fmt: skip


def chains(job_of, kills, moments, seconds):
    """Kill one job after the other, each `kills[i]` times in a row; return the jobs' names.

    A job that was done before it could be killed counts for nothing: another begins, and is killed earlier.
    """
    for number, count in enumerate(kills):
        for attempt in range(8):
            name = f"{number}-{attempt}"
            if killed(job_of(name), [delay / (count * (1 + attempt)) for delay in moments(count, seconds)]) == count:
                break
        else:
            pytest.fail("it was over before it could be killed, eight times")
        yield name


@pytest.mark.parametrize(
    "extra", [("trainer.max_epochs=12", "callbacks.early_stopping=null"), FINETUNED], ids=["frozen", "full"]
)
def test_train(start, fault, moments, tmp_path, small, smears_of, extra):
    arguments = [*LEAN, *extra, *smears_of(small, 6, 2, 3)]

    def job(name):
        outputs = tmp_path / name
        own = [*arguments, f"outputs={outputs}", f"cache.root={tmp_path / 'cache'}-{name}"]

        def begin():
            if name.startswith("0"):
                return start("train", *own, "resume=auto")
            begun = (outputs / "run" / "config.yaml").exists()
            return start("train", *([f"resume={outputs / 'run'}"] if begun else [*own, f"hydra.run.dir={outputs}/run"]))

        return Job(begin, lambda: bool(run_folders(outputs)))

    seconds = job("whole").seconds()
    (whole,) = run_folders(tmp_path / "whole")
    for name in chains(job, [2, 2], moments, seconds):
        if [read_run(run)["status"] for run in run_folders(tmp_path / name)] != ["finished"]:  # else killed at its end
            job(name).start().end().assert_well()
        folders = run_folders(tmp_path / name)
        assert len(folders) == 1
        assert_same_run(whole, folders[0])
        assert not [file for file in folders[0].rglob(".*") if file.name != ".lock"]  # nothing half-written is left
        fault("killed with SIGKILL: train", 2)


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_predict(start, fault, moments, tmp_path, trained, crowd, tta):
    def job(name):
        arguments = [f"checkpoint={trained}", f"images={crowd}", f"output={tmp_path}/{name}.csv", f"tta={tta}"]
        own = [*arguments, "device=cpu", "features.backend=eager"]
        return Job(lambda: start("predict", *own), (tmp_path / f"{name}.state.json").exists)

    seconds = job("whole").seconds()
    for name in chains(job, [4], moments, seconds):
        job(name).start().end().assert_well()
        assert (tmp_path / f"{name}.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert len((tmp_path / f"{name}.csv").read_bytes().splitlines()) == 1 + 6000
        assert not [*tmp_path.glob(f"{name}.s*"), *tmp_path.glob(f".{name}.*"), *tmp_path.glob(f"{name}.lock")]
        fault("killed with SIGKILL: predict", 4)


def test_audit(start, fault, moments, tmp_path, painted):
    tables = [f"{name}.csv" for name in ("sources", "leaks", "conflicts", "duplicates", "unreadable")]

    def job(name):
        cache, outputs = tmp_path / f"cache-{name}", tmp_path / name
        own = ["data=imagefolder", f"data.root={painted / 'images'}", f"cache.root={cache}", f"outputs={outputs}"]
        return Job(lambda: start("audit", *own), (cache / "audit-progress").exists)

    def results(name):
        folders = [file.parent for file in (tmp_path / name).rglob("report.html")]  # those of killed ones are parts
        assert len(folders) == 1
        kept = {file.name: file.read_bytes() for file in (tmp_path / f"cache-{name}" / "audits").glob("*.csv")}
        assert len(kept) == 1
        return contents(folders[0], *tables, "verdict.txt", "report.html"), kept

    seconds = job("whole").seconds()
    for name in chains(job, [3, 2], moments, seconds):
        job(name).start().end().assert_well()
        assert results(name) == results("whole")
        assert not list((tmp_path / f"cache-{name}" / "audit-progress").rglob("*"))
    fault("killed with SIGKILL: audit", 5)


def test_cache_writing(start, fault, moments, tmp_path, crowd):
    from bloodcell.inference.feature_store import FeatureStore

    def job(name):
        cache = tmp_path / f"cache-{name}"
        own = [*LEAN, "data=imagefolder", f"data.root={crowd}", f"cache.root={cache}", f"outputs={tmp_path / name}"]
        more = ["trainer.max_epochs=1", "data.leak_check=off"]
        return Job(
            lambda: start("train", *own, *more),
            lambda: any(cache.glob("features/*")),
            lambda: any((tmp_path / name).rglob("history.csv")),
        )

    def rows(name):
        (folder,) = (tmp_path / f"cache-{name}" / "features").iterdir()
        store = FeatureStore(folder)
        places = store.places(list(store.place_of))
        assert (places >= 0).all()
        return dict(zip(store.place_of, store.rows(places)[:].numpy(), strict=True))

    seconds = job("whole").seconds()
    whole = rows("whole")
    assert len(whole) == 6000
    (one,) = run_folders(tmp_path / "whole")
    for name in chains(job, [3, 2], moments, seconds):
        before = rows(name)  # whole chunks alone
        assert all((whole[key] == row).all() for key, row in before.items())
        job(name).start().end().assert_well()
        after = rows(name)
        assert after.keys() == whole.keys()
        assert all((whole[key] == row).all() for key, row in after.items())
        (other,) = [run for run in run_folders(tmp_path / name) if (run / "metrics.json").exists()]
        assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    fault("killed with SIGKILL: cache writing", 5)
