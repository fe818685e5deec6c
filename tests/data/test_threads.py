"""Threads that cannot be stopped do not keep the process alive."""

import os
import signal
import subprocess
import sys
import time

import pytest

#: Works in threads for a minute, unless the process is asked to end.
WORKING = """
import os, sys, time
from bloodcell.data.threads import map_in_order
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError

def work(number):
    os.write(1, b"begun\\n")  # at once, for several threads say it
    time.sleep(60)

def items():
    yield from range(3)
    time.sleep(float(sys.argv[1]))
    raise BloodcellError("no more")

try:
    list(map_in_order(work, items(), 2))
except BaseException as error:
    distributed.leave(SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1))
    raise
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("seconds", "code"), [("30", 130), ("0", 1)], ids=["Ctrl+C", "an error"])
def test_neither_ctrl_c_nor_an_error_waits_for_threads_at_work(seconds, code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", WORKING, seconds]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert running.stdout.readline() == "begun\n"
    start = time.monotonic()
    if code == 130:
        running.send_signal(signal.SIGINT)
    assert running.wait(30) == code
    assert time.monotonic() - start < 20
    running.communicate()
