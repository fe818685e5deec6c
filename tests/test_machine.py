"""Processors and devices: what is asked for is there, or is refused in a line."""

import gc
import os
import weakref
from pathlib import Path

import pytest
import torch

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import best_device, cpu_count, device_arguments, long_lived, short_lived


@pytest.fixture
def gpus(monkeypatch):
    """Make torch find some GPUs: gpus(cuda=2) or gpus(mps=True)."""

    def pretend(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    pretend()
    return pretend


@pytest.fixture
def cgroup(monkeypatch):
    """Give the process 8 cores and the files of a control group: cgroup({"cpu.max": "200000 100000"})."""

    def pretend(files):
        def read_text(path, *_, **__):
            name = path.as_posix().removeprefix("/sys/fs/cgroup/")
            if name not in files:
                raise FileNotFoundError(name)
            return files[name]

        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        monkeypatch.setattr(Path, "read_text", read_text)

    return pretend


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_limit_counts(cgroup, files, cores):
    cgroup(files)
    assert cpu_count() == cores


def test_systems_without_affinity(cgroup, monkeypatch):
    cgroup({})
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cpu_count() == expected


def test_nothing_asked_is_the_best_device():
    assert device_arguments(None, None, None) == {"accelerator": "auto", "devices": 1}
    assert device_arguments(None, "cpu", 2) == {"accelerator": "cpu", "devices": 2}
    assert device_arguments(None, "gpu", None) == {"accelerator": "gpu", "devices": 1}


def test_zero_is_the_cpu_even_beside_a_gpu(gpus):
    gpus(cuda=1)
    assert device_arguments(0, None, None) == {"accelerator": "cpu", "devices": 1}


@pytest.mark.parametrize("asked", [1, 2, -1, [0], [1], [0, 1]])
def test_gpus_that_are_there(gpus, asked):
    gpus(cuda=2)
    assert device_arguments(asked, None, None) == {"accelerator": "gpu", "devices": asked}


def test_apples_counts_as_one(gpus):
    gpus(mps=True)
    assert device_arguments(1, None, None) == {"accelerator": "gpu", "devices": 1}
    with pytest.raises(BloodcellError, match="has 1 GPU that"):
        device_arguments(2, None, None)


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (0, 1, r"trainer\.gpus=1, but this machine has no GPU that torch can use; use trainer\.gpus=0 for the CPU"),
        (0, -1, r"trainer\.gpus=-1, but this machine has no GPU"),
        (1, [1], r"trainer\.gpus=\[1\], but this machine has 1 GPU that"),
        (2, 3, r"trainer\.gpus=3, but this machine has 2 GPUs that"),
    ],
)
def test_gpus_that_are_not_there(gpus, there, asked, message):
    gpus(cuda=there)
    with pytest.raises(BloodcellError, match=message):
        device_arguments(asked, None, None)


@pytest.mark.parametrize("asked", [True, "all", 1.5, [], -2, [-1], [0, 0], ["a"], [0.5]])
def test_what_is_no_choice_of_gpus(gpus, asked):
    gpus(cuda=2)
    with pytest.raises(BloodcellError, match=r"trainer\.gpus=.*; give a number, -1 for all, or a list such as \[0,1\]"):
        device_arguments(asked, None, None)


@pytest.mark.parametrize(("accelerator", "devices"), [("cpu", None), (None, 1)])
def test_both_ways_at_once(accelerator, devices):
    with pytest.raises(
        BloodcellError, match=r"give trainer\.gpus, or trainer\.accelerator and trainer\.devices, not both"
    ):
        device_arguments(0, accelerator, devices)


def test_gpus_are_in_the_place_of_what_ddp_ships(gpus):
    gpus(cuda=4)
    assert device_arguments([1, 3], None, "auto") == {"accelerator": "gpu", "devices": [1, 3]}


def test_the_best_device_to_evaluate_on(gpus):
    assert best_device(None) == "cpu"
    gpus(mps=True)
    assert best_device(None) == "mps"
    gpus(cuda=2, mps=True)
    assert best_device(None) == "cuda"
    assert [best_device(name) for name in ("cpu", "cuda:1", "mps")] == ["cpu", "cuda:1", "mps"]


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "tpu", "cpu:3", "cuda:", ""])
def test_a_device_that_is_not_there(gpus, name):
    with pytest.raises(BloodcellError, match=rf"device={name} is not there; this machine has cpu"):
        best_device(name)


def test_a_number_beyond_the_last_gpu(gpus):
    gpus(cuda=2)
    with pytest.raises(BloodcellError, match="device=cuda:2 is not there; this machine has cuda, cpu"):
        best_device("cuda:2")


class Circle:
    """Refers to itself, so that nothing but Python's collector frees it."""

    def __init__(self):
        self.itself = self


def test_circles_are_freed_at_once():
    gc.collect()
    with short_lived():
        found = weakref.ref(Circle())
        many = [Circle() for _ in range(50_000)]  # enough for whatever is alive to grow old
        assert found() is not None
        del many
    assert found() is None
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with short_lived():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_stays_is_looked_at_no_more():
    try:
        with long_lived():
            assert not gc.isenabled()
            kept = Circle()
        assert gc.isenabled()
        assert not any(one is kept for one in gc.get_objects())
    finally:
        gc.unfreeze()
    assert any(one is kept for one in gc.get_objects())
