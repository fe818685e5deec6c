"""No image holds a command or the page: the command ends with one line, the page goes on without it."""

import os
import subprocess
import sys
import time
from threading import Thread

import pytest

from bloodcell.data import time_limit
from tests.conftest import QUICK

pytestmark = pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="Windows shows no thread's time")

#: `predict`, but one image keeps its decoder at work for ever.
SLOW = """
import hashlib, sys
from bloodcell import cli
from bloodcell.data import images, time_limit
time_limit.SECONDS = 0.5
decode = images._decode
def slow(path, *rest):
    while "slow" in str(path):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000)  # without the interpreter's lock
    return decode(path, *rest)
images._decode = slow
sys.argv = ["bloodcell", *sys.argv[1:]]
cli.main()
"""


def test_a_command_ends_and_names_the_image(quick_run, write_image, tmp_path):
    for number in range(3):
        write_image(tmp_path / "cells" / f"{number}.png", seed=number)
    write_image(tmp_path / "cells" / "slow.png")
    line = [sys.executable, "-c", SLOW, "predict", str(tmp_path / "cells"), f"checkpoint={quick_run}", "device=cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [*line, f"output={tmp_path / 'table.csv'}"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        f"error: {tmp_path / 'cells' / 'slow.png'}: decoding takes longer than 0.5 seconds; "
        "remove this file, and start again"
    )


#: A training whose worker process decodes one image for ever, which was quick when it was checked.
SLOW_IN_A_WORKER = SLOW.replace('while "slow" in', 'while multiprocessing.parent_process() and "slow" in').replace(
    "import hashlib,", "import hashlib, multiprocessing,"
)


@pytest.mark.slow
def test_a_training_whose_worker_decodes_for_ever_ends(write_image, tmp_path):
    for number in range(16):
        write_image(tmp_path / "cells" / "ab"[number % 2] / f"slow {number}.png", seed=number)
    choices = [*QUICK, "data=imagefolder", f"data.root={tmp_path / 'cells'}", "finetune=full", "data.in_memory=false"]
    choices += ["data.workers=1", "data.val_fraction=0.25", f"hydra.run.dir={tmp_path / 'run'}"]
    choices += ["data.batch_size=2", "calibrate=false"]
    line = [sys.executable, "-c", SLOW_IN_A_WORKER, "train", *choices]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 1
    slow, last = ended.stderr.strip().splitlines()[-2:]
    assert ".png: decoding takes longer than 0.5 seconds" in slow
    assert last == "error: a process that decodes images ended, as it says above; resume=RUN continues the training"


def test_only_the_time_at_work_counts_and_each_image_once(monkeypatch):
    monkeypatch.setattr(time_limit, "SECONDS", 0.2)
    asked, goes_on = [], True

    def decode():
        with time_limit.timed("a.png: decoding"):
            while goes_on:
                sum(range(1000))

    def wait():
        with time_limit.timed("b.png: decoding"):
            while goes_on:
                time.sleep(0.01)

    threads = [Thread(target=decode), Thread(target=wait)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        asked.append(time_limit.too_slow())
        time.sleep(0.02)
    goes_on = False
    for thread in threads:
        thread.join()
    assert [name for name in asked if name] == ["a.png: decoding"]
    assert time_limit._begun == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_worker_never_waits_for_the_clock():
    """The process forks again and again while another thread takes and gives back the lock."""
    code = """
import os, sys, threading
from bloodcell.data import time_limit
from tests.conftest import QUICK
threading.Thread(target=lambda: [time_limit.too_slow() for _ in iter(int, 1)], daemon=True).start()
for _ in range(200):
    child = os.fork()
    if not child:
        with time_limit.timed("a.png: decoding"):
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
