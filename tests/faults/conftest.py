"""Real processes, and what can happen to them: kills at random moments, signals, full disks."""

from __future__ import annotations

import collections
import io
import os
import secrets
import signal
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.conftest import QUICK

ROOT = Path(__file__).parents[2]

# here, before the processes of xdist start, so that they share it
SEED = int(os.environ.setdefault("BLOODCELL_FAULT_SEED", str(secrets.randbits(32))))

#: Lean: no figures and no loggers, and a backend that need not be built.
LEAN = (*QUICK, "features.backend=eager", "logger=none", "evaluate.figures=false", "limits=false")

#: Seconds that anything may take on a busy machine.
PATIENCE = 400


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(900))


def pytest_terminal_summary(terminalreporter):
    """Print what was done to how many processes, and how often nothing was lost; docs/robustness.md shows it."""
    done, survived = collections.Counter(), collections.Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, what in getattr(report, "user_properties", []) if report.when == "call" else []:
                if name == "fault":
                    done[what] += 1
                    survived[what] += outcome == "passed"
    if not done:
        return
    terminalreporter.section(f"faults, BLOODCELL_FAULT_SEED={SEED}")
    rows = [(what, count, survived[what], count - survived[what]) for what, count in sorted(done.items())]
    rows.append(("all", done.total(), survived.total(), done.total() - survived.total()))
    for row in [("what was done", "how many", "survived", "lost"), ("---",) * 4, *rows]:
        terminalreporter.write_line(f"| {' | '.join(map(str, row))} |")


@dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    def assert_well(self):
        assert self.code == 0, self.err[-3000:]
        assert "Traceback" not in self.err, self.err[-3000:]
        return self

    def assert_one_line(self, code, *words):
        """Assert one clear line on standard error, and nothing else, but for warnings."""
        assert self.code == code, (self.code, self.err[-3000:])
        beside = ("warning: ", "stopping ...")
        lines = [line for line in self.err.splitlines() if line.strip() and not line.startswith(beside)]
        assert len(lines) == 1, self.err[-3000:]
        for word in words:
            assert word in lines[0]
        return self


class Process:
    """A verb of the real command line, in a session of its own."""

    def __init__(self, arguments, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.texts = [folder / f"{len(list(folder.iterdir()))}.{name}" for name in ("out", "err")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        environment.pop("BLOODCELL_CACHE", None)
        self.mark = environment["BLOODCELL_FAULT_MARK"] = secrets.token_hex(16)
        with self.texts[0].open("w") as out, self.texts[1].open("w") as err:
            line = [sys.executable, "-m", "bloodcell", *map(str, arguments)]
            self.popen = subprocess.Popen(
                line, stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=folder, env=environment,
                start_new_session=True,
            )  # fmt: skip

    @property
    def running(self):
        return self.popen.poll() is None

    def end(self):
        """Wait for its end, and see to it that no process is left behind."""
        self.popen.wait(PATIENCE)
        wait_for(lambda: not self.family(), "its worker processes to end")
        return Ended(self.popen.returncode, *(text.read_text() for text in self.texts))

    def family(self):
        """Return the ids of the living processes that it started, and they in turn: those with its mark.

        Neither session nor parent would do: numbers of processes that ended are given to others.
        """
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                marked = self.mark.encode() in environment.read_bytes()  # empty of one that ended
            except OSError:  # gone, or another user's
                continue
            if marked and int(environment.parent.name) != self.popen.pid:
                found.append(int(environment.parent.name))
        return found

    def send(self, number):
        self.popen.send_signal(number)  # nothing where it is over

    def wait_until(self, ready):
        """Wait until something is so, or the process is over."""
        wait_for(lambda: ready() or not self.running, "the process to get there")


def wait_for(ready, what):
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.005)


@dataclass
class Job:
    """Something to be done whatever happens: its command, and when its work is under way.

    Attributes:
        start: Starts or continues it: start() -> Process.
        ready: Says whether the work has begun, which is where random moments begin.
        over: Says whether that work is over; None: when the process ends.
    """

    start: object
    ready: object
    over: object = None
    kills: list = field(default_factory=list)

    def seconds(self):
        """Do it undisturbed, and return how long the work took."""
        process = self.start()
        process.wait_until(self.ready)
        begun = time.monotonic()
        if self.over:
            process.wait_until(self.over)
        else:
            process.popen.wait(PATIENCE)
        seconds = time.monotonic() - begun
        process.end().assert_well()
        return seconds

    def strike(self, number, delay):
        """Start it, send a signal so many seconds after the work begun, and return the process; None: it was over."""
        process = self.start()
        process.wait_until(self.ready)
        time.sleep(delay)
        if not process.running:
            process.end().assert_well()
            return None
        process.send(number)
        return process


def killed(job, delays):
    """Kill a job again and again, each time at one of the delays after its work begun; return how often that was."""
    count = 0
    for delay in delays:
        if (process := job.strike(signal.SIGKILL, delay)) is None:
            break
        if (ended := process.end()).code == 0:  # in this moment
            break
        assert ended.code == -signal.SIGKILL, ended.err[-3000:]
        count += 1
    return count


@pytest.fixture
def random(request):
    """Return this test's own random generator, and say how to have it again."""
    print(f"BLOODCELL_FAULT_SEED={SEED}")
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture
def moments(random):
    """Draw random moments of a working time, spread over its phases: moments(3, 4.0) -> three numbers of seconds."""

    def draw(count, seconds):
        return list(random.permutation((np.arange(count) + random.random(count)) / count * seconds))

    return draw


@pytest.fixture
def start(tmp_path, request):
    """Start a verb: start("train", *arguments) -> Process. What is left at the end is killed."""
    started = []

    def begin(*arguments):
        started.append(Process(arguments, tmp_path / "said"))
        return started[-1]

    yield begin
    for process in started:
        if process.running:
            process.popen.kill()
        process.popen.wait()
        for pid in process.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def fault(record_property):
    """Count something that was done to a process: fault("killed: train", 3)."""

    def count(what, times=1):
        for _ in range(times):
            record_property("fault", what)

    return count


@pytest.fixture(scope="session")
def shared(tmp_path_factory, request):
    """Return a folder that all processes of xdist share: shared(name, make) -> what make(folder) filled once."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if hasattr(request.config, "workerinput") else base

    def folder(name, make):
        with FileLock(base / f".{name}.lock"):
            if not (base / f".{name}.made").exists():
                make(base / name)
                (base / f".{name}.made").touch()
        return base / name

    return folder


@pytest.fixture(scope="session")
def crowd(shared):
    """Return class folders of 6,000 small pictures of two classes, 48 of them different."""
    from PIL import Image

    def make(root):
        for label in ("round", "square"):
            (root / label).mkdir(parents=True)
            for number in range(24):
                pixels = np.random.default_rng([number, len(label)]).integers(0, 256, (16, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(buffer := io.BytesIO(), "png")
                for copy in range(125):  # each of another content, which no decoder reads
                    name = root / label / f"{number:02}-{copy:03}.png"
                    name.write_bytes(buffer.getvalue() + str(copy).encode())

    return shared("crowd", make)


@pytest.fixture(scope="session")
def painted(shared):
    """Return painted smears: 400 images of 4 classes, with their originals."""
    from bloodcell.data.synthetic.smears import Smears, write_smears

    return shared("painted", lambda folder: write_smears(folder, Smears(9, 3, 8, rescans=1, seed=3)))


@pytest.fixture(scope="session")
def small(shared):
    """Return painted smears: 96 images of 4 classes."""
    from bloodcell.data.synthetic.smears import Smears, write_smears

    return shared("small", lambda folder: write_smears(folder, Smears(6, 2, 3)))


@pytest.fixture(scope="session")
def smears_of():
    """Return the arguments that name painted smears: smears_of(folder, train, test, copies)."""

    def arguments(folder, train, test, copies, *more):
        reader = {"train_photographs": train, "test_photographs": test, "copies": copies}
        return [f"data.root={folder}", *(f"data.reader.{key}={value}" for key, value in reader.items()), *more]

    return arguments


@pytest.fixture(scope="session")
def trained(shared, small, smears_of):
    """Return a finished run: a small network, trained on small smears."""

    def make(folder):
        process = Process(
            ["train", *LEAN, *smears_of(small, 6, 2, 3), f"hydra.run.dir={folder}", f"cache.root={folder}-cache"],
            folder.parent / "trained-said",
        )
        process.end().assert_well()

    return shared("trained", make)


class Disk:
    """A small file system in memory.

    Args:
        folder: Where it is mounted.
    """

    def __init__(self, folder, size):
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)

    def fill(self, leaving):
        """Fill it up to so many bytes."""
        status = os.statvfs(self.folder)
        (self.folder / "ballast").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - leaving)))

    def make_room(self):
        (self.folder / "ballast").unlink()

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """Return a disk of 64 MB."""
    made = Disk(tmp_path / "disk", "64m")
    yield made
    made.close()


def contents(folder, *names):
    """Return the bytes of files of a folder, by name."""
    return {name: (folder / name).read_bytes() for name in names}


def run_folders(outputs):
    return sorted(file.parent for file in Path(outputs).rglob("run.json"))
