"""A job of two processes that fails or is stopped: one clear line, an exit code, no process left, and it resumes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bloodcell.runtime import run_folder
from tests.runtime.conftest import NET, ROOT, SRUN, TORCHRUN, TWO, done, environment, python, start_each

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Trains; in the second epoch process 1 or 0 ends in a way that the environment gives.
ENDS = """
import os, signal
from bloodcell.cli import main
from bloodcell.models.classifier import Classifier
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError
whole = Classifier.training_step
def step(self, batch, number):
    if self.current_epoch == 1 and distributed.here().rank == int(os.environ["RANK_THAT_ENDS"]):
        if name := os.environ.get("SIGNAL"):
            os.kill(os.getpid(), getattr(signal, name))
        raise BloodcellError("this one fails") if "FAULT" not in os.environ else ZeroDivisionError("a fault")
    return whole(self, batch, number)
Classifier.training_step = step
main("train")
"""
LOST = "another process of this job has ended, or cannot be reached any more"


@pytest.fixture
def training(odd, tmp_path):
    return [*NET, f"data.root={odd}", *TWO, f"hydra.run.dir={tmp_path / 'run'}"]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_in_one_process_is_one_line_and_the_run_resumes(pair, training, tmp_path, rank):
    result = python(["-c", ENDS, *training], tmp_path / "cache", RANK_THAT_ENDS=rank)
    assert (result.returncode, result.stderr) == (1, "error: this one fails\n")
    assert run_folder.read_run(tmp_path / "run")["error"] == f"process {rank}: this one fails"
    done(["train.py", f"resume={tmp_path / 'run'}"], tmp_path / "cache")
    for file in ("history.csv", "predictions.csv", "metrics.json"):
        assert (tmp_path / "run" / file).read_bytes() == (pair[1][0] / file).read_bytes(), file


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_process_ends_the_job(training, tmp_path, rank):
    begun = time.monotonic()
    result = python(["-c", ENDS, *training], tmp_path / "cache", RANK_THAT_ENDS=rank, SIGNAL="SIGKILL")
    killed = f"error: process {rank} of 2 was killed (SIGKILL); the others were ended\n"
    assert (result.returncode, result.stderr) == (1, killed)
    assert time.monotonic() - begun < 60 * max(1, os.getloadavg()[0])  # nobody waits for a time limit
    record = run_folder.read_run(tmp_path / "run")
    assert record["status"] != "finished"
    if rank == "1":
        assert (record["status"], record["error"]) in [("failed", f"process 0: {LOST}"), ("interrupted", "")]


def test_a_process_that_is_asked_to_end_ends_the_job(training, tmp_path):
    result = python(["-c", ENDS, *training], tmp_path / "cache", RANK_THAT_ENDS="1", SIGNAL="SIGTERM")
    assert result.returncode == 143
    first, line = result.stderr.splitlines()
    assert first == "stopping ..."
    assert line.startswith("terminated; go on with: ")
    assert line.endswith(" resume=auto")


def test_a_fault_of_the_program_is_one_traceback(training, tmp_path):
    result = python(["-c", ENDS, *training], tmp_path / "cache", RANK_THAT_ENDS="1", FAULT="1")
    assert result.returncode == 1
    assert result.stderr.count("Traceback") == 1
    assert result.stderr.endswith("ZeroDivisionError: a fault\n")


@pytest.mark.parametrize(
    ("number", "everyone", "word", "code"),
    [
        (signal.SIGINT, True, "interrupted", 130),
        (signal.SIGINT, False, "interrupted", 130),
        (signal.SIGTERM, False, "terminated", 143),
    ],
    ids=["Ctrl+C", "SIGINT", "SIGTERM"],
)
def test_a_signal_ends_all_processes(training, tmp_path, number, everyone, word, code):
    process = subprocess.Popen(
        [sys.executable, "train.py", *training, "trainer.max_epochs=1000", "callbacks=to_the_end"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True,
        env=environment(tmp_path / "cache"),
    )  # fmt: skip
    while not (tmp_path / "run" / "history.csv").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    if everyone:  # as a terminal does
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    first, line = stderr.splitlines()
    assert first == "stopping ..."
    assert line.startswith(f"{word}; go on with: ")
    assert line.endswith(" resume=auto")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert run_folder.read_run(tmp_path / "run")["status"] == "interrupted"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("data.batch_size=0", "data.batch_size=0; give a whole number of 1 or more"),
        ("data.nonsense=1", "no configuration key 'data.nonsense'"),
        ("trainer.num_nodes=2", "trainer.devices=2 and trainer.num_nodes=2 do not fit the number of processes, 2 with"),
        ("trainer.strategy=fsdp", "trainer.strategy=fsdp: several devices learn by ddp"),
        ("model.weights=DEFAULT", "the pretrained weights of resnet18 could not be downloaded"),
    ],
)
@pytest.mark.parametrize("places", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_a_mistake_is_one_line(odd, tmp_path, wrong, message, places):
    line = ["train.py", *NET, f"data.root={odd}", "trainer=ddp", "trainer.accelerator=cpu", wrong]
    no_network = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path / "hub")}
    codes, printed = start_each(
        [*line, f"outputs={tmp_path / 'outputs'}"], tmp_path, [{**place, **no_network} for place in places]
    )
    assert codes == [1, 1], printed
    lines = [line for text in printed for line in text.splitlines()]
    errors = [line for line in lines if line.startswith("error")]
    assert len(errors) == 1, printed
    assert errors[0].startswith(f"error: {message}")
    assert not any("Traceback" in line for line in lines)
    assert sum("Downloading" in line for line in lines) == (wrong == "model.weights=DEFAULT")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: several devices learn by ddp; leave trainer.strategy out"),
        (["-m", "seed=1,2"], "a multirun works on one device; start jobs of several devices one by one"),
    ],
)
def test_a_mistake_of_a_job_on_one_machine_is_one_line(training, tmp_path, wrong, message):
    result = python(["train.py", *training, *wrong], tmp_path)
    assert (result.returncode, result.stderr) == (1, f"error: {message}\n")


def test_a_multirun_in_two_processes_is_refused_in_one_line(odd, tmp_path):
    line = ["train.py", *NET, f"data.root={odd}", f"outputs={tmp_path / 'outputs'}", "-m", "seed=1,2"]
    codes, printed = start_each(line, tmp_path, TORCHRUN)
    assert codes == [1, 1], printed
    said = sorted("".join(line for line in text.splitlines() if not line.startswith("loading ...")) for text in printed)
    assert said == ["", "error: a multirun works on one device; start jobs of several devices one by one"]


def test_processes_that_do_not_meet_say_so(tmp_path):
    code = (
        "from datetime import timedelta\n"
        "from bloodcell.cli import main\n"
        "from bloodcell.runtime import distributed\n"
        "distributed.MEETING = timedelta(seconds=2)\n"
        "main('train')\n"
    )
    codes, printed = start_each(["-c", code], tmp_path, TORCHRUN[1:])
    assert codes == [1]
    assert printed[0].splitlines()[-1].startswith("error: process 1 of 2 has not met the others at 127.0.0.1:")
    assert "Traceback" not in printed[0]
