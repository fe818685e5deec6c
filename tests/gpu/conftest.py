"""Training and inference on an NVIDIA GPU; skipped without one. BLOODCELL_GPU_TESTS=cpu runs the same on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import SMALL

#: cuda or cpu.
DEVICE = os.environ.get("BLOODCELL_GPU_TESTS", "cuda")
GPUS = f"trainer.gpus={int(DEVICE == 'cuda')}"
ROOT = Path(__file__).parents[2]

#: MobileNetV2 in its full width, on few small smears.
SMEARS = ("model=mobilenetv2", "model.weights=null", "model.image_size=64", "data.leak_check=off", *SMALL)
FULL = (
    "finetune=full", "augment=light", "optimizer=sgd", "optimizer.lr=3e-3", "data.batch_size=8",
    "callbacks.early_stopping=null",
)  # fmt: skip
LEAN = ("logger=none", "evaluate.figures=false")


def pytest_collection_modifyitems(items):
    lacking = DEVICE == "cuda" and not torch.cuda.is_available()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.timeout(240))
            # releases of torch differ in what they warn of on a GPU
            item.add_marker(pytest.mark.filterwarnings("default"))
            if lacking:
                item.add_marker(pytest.mark.skip(reason="torch finds no NVIDIA GPU"))


def trained(compose, folder, *overrides):
    """Train in this process and return the run folder."""
    from bloodcell.training.train import train

    train(compose(*SMEARS, GPUS, *LEAN, *overrides, f"outputs={folder.parent}"), folder)
    return folder


@pytest.fixture(scope="session")
def full_run(compose, tmp_path_factory):
    """Fine-tune on the device, until answers differ from image to image, and return the run folder."""
    choices = ("trainer.max_epochs=12", "calibrate=false", "callbacks.best=null")
    return trained(compose, tmp_path_factory.mktemp("gpu") / "full", *FULL, *choices)


@pytest.fixture(scope="session")
def frozen_run(compose, tmp_path_factory):
    """Train the head on the device and return the run folder."""
    return trained(compose, tmp_path_factory.mktemp("gpu") / "frozen", "trainer.max_epochs=4")


@dataclass
class Command:
    """A command line in a process of its own, and the file of what it prints."""

    process: subprocess.Popen
    printed: Path

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL, self.printed.read_text()

    def end(self):
        code = self.process.wait(200)
        assert code == 0, self.printed.read_text()[-3000:]
        return self.printed.read_text()


@pytest.fixture
def start(cache, tmp_path):
    """Start a script of the repository: start("train.py", "a=1") -> Command."""

    def started(script, *arguments):
        printed = tmp_path / f"{time.monotonic_ns()}.txt"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        line = [sys.executable, str(ROOT / script), *arguments]
        with printed.open("w") as out:
            process = subprocess.Popen(
                line, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=tmp_path, env=environment
            )
        return Command(process, printed)

    return started


def probabilities(file):
    """Return a predictions table's rows in the order of their paths, and its probabilities (N, classes)."""
    table = pd.read_csv(file).sort_values("path", kind="stable")
    columns = [name for name in table if name.startswith("p_")]
    return table, table[columns].to_numpy(np.float64)


def assert_agree(one, other, atol=1e-3):
    """Assert that two files of predictions are of the same images, with the same probabilities."""
    (first, mine), (second, theirs) = probabilities(one), probabilities(other)
    assert len(first) > 20
    assert list(first["path"]) == list(second["path"])
    assert mine.std(axis=0).max() > 10 * atol  # they differ from image to image
    np.testing.assert_allclose(mine, theirs, atol=atol, rtol=0)
