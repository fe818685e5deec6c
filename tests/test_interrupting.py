"""SIGTERM and Ctrl-C end a command with the code that shells know, through Lightning too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bloodcell.models.classifier import Classifier
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import remember
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
def test_a_signal_is_acknowledged_and_ends_with_the_command_that_goes_on(number, word, code, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "data.root=my cells"])
    remember(sys.argv)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, one_clear_line(), raising_on_sigterm():
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    first, last = capsys.readouterr().err.splitlines()
    assert first == "stopping ..."
    assert last.startswith(f"{word}; go on with: ")
    assert last.endswith(" train.py 'data.root=my cells'")
    assert signal.getsignal(signal.SIGTERM) is before


@posix
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_training_that_is_asked_to_end_says_so_and_not_that_it_failed(compose, tmp_path, monkeypatch, number, kind):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Classifier, "training_step", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt) as caught, raising_on_sigterm():
        train(compose(*QUICK, *SMALL, "logger=none", f"outputs={tmp_path}"), tmp_path / "run")
    assert type(caught.value) is kind
    assert caught.value.continuation.endswith(f" resume={tmp_path / 'run'}")
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
    first, last = ended.stderr.splitlines()
    assert ended.returncode == 130
    assert (first, last.partition(";")[0]) == ("stopping ...", "interrupted")
    assert last.endswith(" -m job")


@posix
def test_a_signal_is_acknowledged_while_foreign_code_holds_the_main_thread():
    """Python's own handlers wait for the main thread, which a library may keep for minutes."""
    code = """
import ctypes, signal
from bloodcell.runtime.signals import raising_on_sigterm
from bloodcell.runtime.user_errors import one_clear_line
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
with one_clear_line(), raising_on_sigterm():
    print("ready", flush=True)
    wait = ctypes.CDLL(None).sigwait  # it returns for SIGUSR1 alone
    numbers = ctypes.create_string_buffer(128)
    ctypes.CDLL(None).sigemptyset(numbers), ctypes.CDLL(None).sigaddset(numbers, signal.SIGUSR1)
    wait(numbers, ctypes.byref(ctypes.c_int()))
"""
    job = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert job.stdout.readline() == "ready\n"
        job.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert job.stderr.readline() == "stopping ...\n"
        assert time.monotonic() - sent < 0.5
        assert job.poll() is None, "the library still holds the main thread"
        job.send_signal(signal.SIGUSR1)
        assert job.wait(10) == 130
    finally:
        job.kill()
        job.communicate()


@posix
def test_a_forked_process_says_nothing_of_its_own_signals():
    code = """
import os, signal, time
from bloodcell.runtime.signals import raising_on_sigterm
with raising_on_sigterm():
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    os.waitpid(child, 0)
    time.sleep(0.2)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert ended.stderr == ""


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
