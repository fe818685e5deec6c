"""Two real processes: how to start them, and a small training that one process and two can do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The variables of torchrun and of srun, for process 0 and process 1.
TORCHRUN = [
    {"RANK": n, "LOCAL_RANK": n, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"} for n in "01"
]
SRUN = [
    {"SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "cells", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
     "SLURM_NNODES": "1", "SLURM_PROCID": n, "SLURM_LOCALID": n, "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost"}
    for n in "01"
]  # fmt: skip

#: A net that learns something from few images in a second.
NET = (
    "model=resnet18", "model.weights=null", "model.image_size=32", "model.head.dropout=0", "data.workers=0",
    "trainer.precision=32-true", "trainer.max_epochs=3", "data.leak_check=off", "data=imagefolder",
    "optimizer=sgd", "optimizer.lr=1e-2",
)  # fmt: skip
ONE = ("trainer.gpus=0", "data.batch_size=12")
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=6")


def environment(cache, **more):
    """Return the environment of a command that nobody has made one of several processes."""
    kept = {name: value for name, value in os.environ.items() if name not in TORCHRUN[0] | SRUN[0]}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "BLOODCELL_CACHE": str(cache), **more}


def python(line, cache, **more):
    """Run Python with some arguments to its end."""
    return subprocess.run(
        [sys.executable, *map(str, line)], capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
        env=environment(cache, **more),
    )  # fmt: skip


def done(line, cache, **more):
    result = python(line, cache, **more)
    assert result.returncode == 0, result.stderr
    return result


def start_each(line, cache, places):
    """Start one process with the variables of each place, and return their exit codes and what they printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    begun = [
        subprocess.Popen([sys.executable, *map(str, line)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         cwd=ROOT, env=environment(cache, MASTER_PORT=port, **place)) for place in places
    ]  # fmt: skip
    printed = [process.communicate(timeout=600)[0] for process in begun]
    return [process.returncode for process in begun], printed


@pytest.fixture
def alone(monkeypatch):
    """Take away what torchrun or srun would have set."""
    for name in TORCHRUN[0] | SRUN[0]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def odd(smears, tmp_path_factory):
    """Return a folder of 59 images to train, 13 to validate and 21 to test on: two divide none of these numbers."""
    root = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")):
        files, tests = (sorted((smears.root / "images" / part / name).iterdir()) for part in ("TRAIN", "TEST"))
        held = 3 + (number == 0)
        for split, part in {"val": files[:held], "train": files[held:], "test": tests[number > 0 :]}.items():
            (root / split / name).mkdir(parents=True)
            for file in part:
                shutil.copy(file, root / split / name)
    return root


@pytest.fixture(scope="session")
def pair(odd, tmp_path_factory):
    """Return the runs of one process and of two with a frozen backbone, and what the commands printed."""
    root = tmp_path_factory.mktemp("pair")
    return [(root / name, train_in(root / name, odd, how)) for name, how in (("one", ONE), ("two", TWO))]


def train_in(folder, odd, how, *choices):
    """Train with a cache of the run's own, beside its folder."""
    return done(["train.py", *NET, f"data.root={odd}", *how, *choices, f"hydra.run.dir={folder}"], f"{folder}-cache")
