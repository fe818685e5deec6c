"""SIGTERM and Ctrl-C end a command with the code that shells know, through Lightning too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.models.classifier import Classifier
from bloodcell.runtime import run_folder
from bloodcell.runtime.signals import Terminated, interruptible, raising_on_sigterm
from bloodcell.runtime.user_errors import one_clear_line, user_message
from bloodcell.training.train import train
from tests.conftest import QUICK, SMALL

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")


@posix
@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_a_signal_is_one_line_and_its_exit_code(number, word, code, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, one_clear_line(), raising_on_sigterm():
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{word}; ")
    assert signal.getsignal(signal.SIGTERM) is before


@posix
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_training_that_is_asked_to_end_says_so_and_not_that_it_failed(compose, tmp_path, monkeypatch, number, kind):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Classifier, "training_step", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt) as caught, raising_on_sigterm():
        train(compose(*QUICK, *SMALL, "logger=none", f"outputs={tmp_path}"), tmp_path / "run")
    assert type(caught.value) is kind
    assert run_folder.read_run(tmp_path / "run")["status"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before  # Lightning leaves it ignored


def test_without_a_handler_lightnings_own_word_for_sigterm_counts():
    with pytest.raises(Terminated), interruptible():
        raise SystemExit


@posix
def test_the_exit_code_is_the_same_where_a_signal_came_in_the_middle_of_text_that_is_executed(tmp_path):
    """Dataclasses, for one, are made by executing text, and packages that are imported make hundreds."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "__main__.py").write_text("""
import os, signal
from bloodcell.cli import one_clear_line
with one_clear_line():
    exec("os.kill(os.getpid(), signal.SIGINT)")
""")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ended = subprocess.run(
        [sys.executable, "-m", "job"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (130, 1)


@posix
def test_a_signal_after_the_work_is_done_changes_nothing():
    code = """
import atexit, os, signal
atexit.register(lambda: [os.kill(os.getpid(), number) for number in (signal.SIGINT, signal.SIGTERM)])
from bloodcell.runtime.signals import raising_on_sigterm
with raising_on_sigterm():
    pass
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "message",
    [
        "DataLoader worker (pid 7) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
    ],
)
def test_a_killed_worker_is_a_clear_line(message):
    assert "was killed" in user_message(RuntimeError(message))
    assert user_message(RuntimeError("anything else")) is None
