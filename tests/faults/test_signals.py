"""SIGINT and SIGTERM: one clear line, the exit code that shells know, no process left behind, and it goes on."""

import json
import os
import signal
import time

import pytest

from bloodcell.runtime import run_folder
from tests.faults.conftest import LEAN, Job, contents, wait_for
from tests.test_training import assert_same_run

#: Seconds in which a process that is asked to end must have done so, on a machine that has nothing else to do.
SOON = 20

#: Signal -> (word, exit code).
ENDS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
WORKERS = ("finetune=full", "data.in_memory=false", "data.workers=2", "trainer.max_epochs=4")


def stopped(job, number, delay):
    """Ask a job to end at a moment, or at an earlier one where it was over by then."""
    for attempt in range(6):
        name = f"{number.name}{attempt}"
        process = job(name).strike(number, delay / 2**attempt)
        if process is not None:
            begun = time.monotonic()
            if (ended := process.end()).code == 0:  # in this moment
                continue
            assert time.monotonic() - begun < SOON * max(1, os.getloadavg()[0])
            word, code = ENDS[number]
            ended.assert_one_line(code, f"{word}; go on with: ", " -m bloodcell ")
            return name
    return pytest.fail("it was over before it could be asked to end, six times")


@pytest.mark.parametrize("extra", [(), WORKERS], ids=["frozen", "workers"])
def test_train(start, fault, moments, tmp_path, small, smears_of, extra):
    def job(name):
        own = [*LEAN, "trainer.max_epochs=12", *extra, *smears_of(small, 6, 2, 3), f"cache.root={tmp_path / 'cache'}"]
        own.append(f"outputs={tmp_path}")
        folder = tmp_path / "runs" / name
        own.append(f"hydra.run.dir={folder}")
        return Job(lambda: start("train", *own), (folder / "config.yaml").exists)

    seconds = job("whole").seconds()
    for number, delay in zip(ENDS, moments(2, seconds), strict=True):
        name = stopped(job, number, delay)
        folder = tmp_path / "runs" / name
        assert run_folder.read_run(folder)["status"] == "interrupted"
        start("train", f"resume={folder}").end().assert_well()
        assert run_folder.read_run(folder)["status"] == "finished"
        assert_same_run(tmp_path / "runs" / "whole", folder)
        fault(f"asked to end with {number.name}: train")


def test_predict(start, fault, moments, tmp_path, trained, crowd):
    def job(name):
        arguments = [f"checkpoint={trained}", f"images={crowd}", f"output={tmp_path}/{name}.csv"]
        own = [*arguments, "device=cpu", "features.backend=eager"]
        return Job(lambda: start("predict", *own), (tmp_path / f"{name}.state.json").exists)

    seconds = job("whole").seconds()
    for number, delay in zip(ENDS, moments(2, seconds), strict=True):
        name = stopped(job, number, delay)
        left = json.loads((tmp_path / f"{name}.state.json").read_text())
        assert left["sizes"][0] <= (tmp_path / f"{name}.csv").stat().st_size
        assert not (tmp_path / f"{name}.lock").exists()
        job(name).start().end().assert_well()
        assert (tmp_path / f"{name}.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        fault(f"asked to end with {number.name}: predict")


def test_audit(start, fault, moments, tmp_path, small):
    def job(name):
        cache = tmp_path / f"cache-{name}"
        own = ["data=imagefolder", f"data.root={small / 'images'}", f"cache.root={cache}", f"outputs={tmp_path / name}"]
        return Job(lambda: start("audit", *own), (cache / "audit-progress").exists)

    def results(name):
        (page,) = (tmp_path / name).rglob("report.html")
        return contents(page.parent, "sources.csv", "leaks.csv", "verdict.txt", "report.html")

    seconds = job("whole").seconds()
    for number, delay in zip(ENDS, moments(2, seconds), strict=True):
        name = stopped(job, number, delay)
        job(name).start().end().assert_well()
        assert results(name) == results("whole")
        fault(f"asked to end with {number.name}: audit")


def test_evaluate(start, fault, moments, tmp_path, trained):
    def job(name):
        own = [f"checkpoint={trained}", f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path / name}", "device=cpu"]
        return Job(lambda: start("evaluate", *own), lambda: any((tmp_path / name).rglob("20*")))

    def results(name):
        (page,) = (tmp_path / name).rglob("evaluation.json")
        return contents(page.parent, "predictions.csv", "metrics.json")

    seconds = job("whole").seconds()
    for number, delay in zip(ENDS, moments(2, seconds), strict=True):
        name = stopped(job, number, delay)
        job(name).start().end().assert_well()
        assert results(name) == results("whole")
        fault(f"asked to end with {number.name}: evaluate")


def test_cache_writing(start, fault, moments, tmp_path, trained, crowd):
    """The features of 6,000 images are being written; the next command finds those that were."""

    def job(name):
        cache = tmp_path / f"cache-{name}"
        own = [*LEAN, "data=imagefolder", f"data.root={crowd}", f"cache.root={cache}", f"outputs={tmp_path / name}"]
        return Job(
            lambda: start("train", *own, "trainer.max_epochs=1", "data.leak_check=off"),
            lambda: any(cache.glob("features/*")),
            lambda: any((tmp_path / name).rglob("history.csv")),
        )

    seconds = job("whole").seconds()
    for number, delay in zip(ENDS, moments(2, seconds), strict=True):
        name = stopped(job, number, delay)
        job(name).start().end().assert_well()
        (one,) = (tmp_path / "whole").rglob("metrics.json")
        (other,) = (tmp_path / name).rglob("metrics.json")
        assert (one.parent / "predictions.csv").read_bytes() == (other.parent / "predictions.csv").read_bytes()
        (store,) = (tmp_path / f"cache-{name}" / "features").iterdir()
        chunks = [{file.stem for file in store.glob(f"chunk-*.{ending}")} for ending in ("npy", "json")]
        assert chunks[0] == chunks[1]  # none is left without its index
        fault(f"asked to end with {number.name}: cache writing")


def test_a_worker_process_is_killed(start, fault, tmp_path, small, smears_of):
    own = [*LEAN, *WORKERS, *smears_of(small, 6, 2, 3), f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}"]
    start("train", *own, f"hydra.run.dir={tmp_path / 'whole'}").end().assert_well()
    for number in range(2):
        folder = tmp_path / f"struck{number}"
        process = start("train", *own, f"hydra.run.dir={folder}")
        process.wait_until((folder / "history.csv").exists)
        wait_for(lambda process=process: len(process.family()) >= 2, "worker processes")
        os.kill(process.family()[number], signal.SIGKILL)
        process.end().assert_one_line(1, "error: a process that decodes images was killed", "resume=RUN")
        assert run_folder.read_run(folder)["status"] == "failed"
        start("train", f"resume={folder}").end().assert_well()
        assert_same_run(tmp_path / "whole", folder)
        fault("worker process killed: train")
