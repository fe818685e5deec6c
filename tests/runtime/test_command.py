"""The command in a run's record, the command that goes on, and the last lines of a verb: what a shell takes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.runtime import command
from tests.runtime.conftest import ROOT, environment


@pytest.fixture
def started(monkeypatch):
    """Return a function that makes this process one that was started by a command: started(argv, python)."""

    def start(arguments, python="python", **variables):
        monkeypatch.setattr(sys, "orig_argv", [python])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        command.remember(arguments)

    yield start
    command.remember([])


@pytest.mark.parametrize(
    ("arguments", "python", "typed"),
    [
        (["train.py", "data.root=my cells"], "python", "python train.py 'data.root=my cells'"),
        (["../train.py", "a=b"], ".venv/bin/python", ".venv/bin/python ../train.py a=b"),
        (["/x/bloodcell/__main__.py", "train", "ä b"], "python3", "python3 -m bloodcell train 'ä b'"),
        (["/not/on/path/bloodcell", "train", "DIR"], "/venv/bin/python", "/not/on/path/bloodcell train DIR"),
    ],
)
def test_a_command_is_repeated_as_it_was_typed(started, arguments, python, typed):
    started(arguments, python)
    assert command.command() == typed


def test_a_program_on_the_path_is_called_by_its_name(started, monkeypatch, tmp_path):
    script = tmp_path / "bloodcell"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    started([str(script), "train", "DIR"])
    assert command.command() == "bloodcell train DIR"
    assert command.continuation(Path("a run")) == "bloodcell train 'resume=a run'"
    assert command.program() == ["bloodcell"]


def test_torchrun_is_part_of_the_command(started):
    of_job = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    started(["train.py", "trainer=ddp"], **of_job)
    assert command.command() == "torchrun --nnodes=2 --nproc-per-node=2 train.py trainer=ddp"
    assert command.continuation(Path("run")) == "torchrun --nnodes=2 --nproc-per-node=2 train.py resume=run"
    started(["/x/bloodcell/__main__.py", "train"], TORCHELASTIC_RUN_ID="bloodcell")  # of our own launcher
    assert command.command() == "python -m bloodcell train"


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (["train.py", "seed=1"], "python train.py resume=runs/1"),
        (["/x/bloodcell/__main__.py", "train", "seed=1"], "python -m bloodcell train resume=runs/1"),
    ],
)
def test_a_training_goes_on_by_its_folder(started, arguments, goes_on):
    started(arguments)
    assert command.continuation(Path("runs/1")) == goes_on


def test_anything_else_goes_on_by_the_same_command(started):
    started(["/x/bloodcell/__main__.py", "tune", "my cells"])
    assert command.continuation(None, "study=a b") == "python -m bloodcell tune 'my cells' 'study=a b'"


@pytest.mark.parametrize(
    ("start", "typed"),
    [
        (["train.py"], "{python} train.py data=table --cfg=job"),
        (["-m", "bloodcell", "train"], "{python} -m bloodcell train data=table --cfg=job"),
    ],
)
def test_the_real_starts_are_told_apart(tmp_path, start, typed):
    code = "import runpy, sys; from bloodcell import cli; from bloodcell.runtime import command\n"
    code += "cli.run_verb = lambda *_: print(command.command())\n"
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nif 'data=table' in sys.argv:\n    exec({code!r})\n")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    line = [sys.executable, *start, "data=table", "--cfg=job"]
    done = subprocess.run(
        line, capture_output=True, text=True, check=True, cwd=ROOT, env={**environment(tmp_path), "PYTHONPATH": paths}
    )
    assert done.stdout.strip() == typed.format(python=shlex.quote(sys.executable))


def test_the_last_lines_can_be_pasted_into_a_shell(started, capsys):
    started(["train.py"])
    command.say_end("a run/report.html", then=command.prediction_by(["a run"]))
    look, following = capsys.readouterr().out.splitlines()
    assert look == "look at: 'a run/report.html'"
    words = shlex.split(following.removeprefix("next: "))
    assert words[-4:] == ["predict", "FOLDER", "checkpoint=a run", "output=FILE.csv"]
    assert words[:-4] == command.program()


def test_what_another_verb_takes_too(started):
    started(["/x/bloodcell/__main__.py", "find-lr", "DIR", "finder.steps=30", "hydra.run.dir=x", "seed=1", "-m"])
    assert command.given("finder.") == ["DIR", "seed=1"]
    started(["train.py", "seed=1"])
    assert command.given() == ["seed=1"]


#: Ends a process whose work is done, while an object is alive that says when Python itself frees it.
ENDING = """
import atexit
from bloodcell.runtime import distributed
class Held:
    def __del__(self):
        print("freed", flush=True)
held = Held()
atexit.register(print, "at exit")
print("done")
distributed.end()
"""


def test_a_process_whose_work_is_done_ends_at_once(tmp_path):
    line, where = [sys.executable, "-c", ENDING], environment(tmp_path)
    done = subprocess.run(line, capture_output=True, text=True, env=where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\nat exit\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_is_lost_is_no_success(tmp_path):
    line, where = [sys.executable, "-c", ENDING], environment(tmp_path)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, env=where)
    assert done.returncode != 0
    assert b"No space left" in done.stderr
