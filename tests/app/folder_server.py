"""The page of a folder in a process of its own, which may be killed and started again on its port."""

import http.client
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from bloodcell.app.server import bound


class FolderServer:
    """The page of a folder in a process of its own, on one port."""

    def __init__(self, *words):
        with bound("127.0.0.1", 0) as listening:
            self.port = listening.getsockname()[1]
        self.line = [sys.executable, "-m", "bloodcell", "app", *words, f"port={self.port}", "device=cpu"]

    def start(self):
        self.process = subprocess.Popen(self.line, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while not self.state().get("digest"):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def state(self):
        try:
            return json.loads(self.ask("GET", "state")[1])
        except OSError:
            return {}

    def ask(self, method, address, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, f"/review/{address}", body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(60)

    def peak(self):
        """Return the most memory that it has had, GB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1e6
