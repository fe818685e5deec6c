"""Processor cores, memory and devices of this machine."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError


def cpu_count() -> int:
    """Return how many processor cores this process may use, given the limits of its container and other processes."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_limit() or allowed) // distributed.here().sharing)


def decoders(workers: int | None) -> int:
    """Return how many threads decode images: at least one; None: one per core."""
    return cpu_count() if workers is None else max(1, workers)


def _cgroup_limit() -> int | None:
    """Return a container's limit of processor time in whole cores (Linux control groups, version 2 and 1)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return max(1, round(int(quota) / int(period))) if quota not in ("max", "-1") else None


def available_memory() -> int:
    """Return how many bytes this process may still allocate without swapping, given the limits of its container."""
    free: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        folder = Path("/sys/fs/cgroup")
        free += [int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())]
    except (OSError, ValueError):  # no Linux, no control group, or no limit in it
        pass
    if not free and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    return max(0, min(free, default=4 * 2**30)) // distributed.here().local_size


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next batch; does nothing on other systems than Linux with glibc.

    By default it returns each large block to the system in every step, and page faults get it back, which is slow on
    virtual machines (measured: tests/benchmarks/finetuning.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1
        mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # older releases take no more
        mallopt(trim_threshold, largest)


@contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """Let this process take at most so many bytes more inside: a larger request is a MemoryError or the library's own.

    Does nothing on other systems than Linux, which do not hold a process to such a limit.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    least = min([taken + more, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Search for no reference cycles inside."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@contextmanager
def short_lived() -> Iterator[None]:
    """Free reference cycles made inside, such as figures, at the end.

    Python collects old objects only when their number has grown by a quarter, which takes hundreds of figures. Inside,
    no object becomes old, so a collection of the young ones suffices.
    """
    with _uncollected():
        try:
            yield
        finally:
            gc.collect(1)


@contextmanager
def long_lived() -> Iterator[None]:
    """Keep what is made inside, such as imported modules, out of Python's search for reference cycles.

    Else each search looks at all of these: a fifth of the time that importing torch and Lightning takes.
    """
    gc.collect()  # what nobody needs would stay for ever, too, with its threads
    with _uncollected():
        try:
            yield
        finally:
            gc.freeze()


def has_cuda() -> bool:
    """Return whether torch can use a CUDA device."""
    import torch

    return bool(torch.cuda.is_available())


def has_bf16(device: str) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, and absent on some builds
    return device == "cpu" and any(getattr(torch.cpu, test, lambda: False)() for test in tests)


def has_int8_products() -> bool:
    """Return whether the processor sums products of 8-bit integers in one instruction; True if Linux does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return True
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return not flags or not flags.isdisjoint(("avx512_vnni", "avx_vnni", "asimddp", "i8mm"))


def exact_float32() -> None:
    """Let NVIDIA GPUs convolve float32 numbers in float32, so that their results agree with a processor's.

    By default they use TF32, which has 10 bits.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False


def free_gpu_memory(device: str) -> int:
    """Return how many bytes of an NVIDIA GPU are free, with those that torch keeps for its next tensors."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def release_gpu_memory() -> None:
    """Give the GPU memory of a training that is over back to the system; its objects refer to each other."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's, without types
        gc.collect()
        torch.cuda.empty_cache()


def device_arguments(gpus: Any, accelerator: str | None, devices: Any) -> dict[str, Any]:
    """Translate `trainer.gpus` into the accelerator and devices of Lightning's Trainer.

    Args:
        gpus: None: the best device. 0: the CPU. n: n GPUs. -1: all. A list: these positions.
        accelerator: Lightning's argument, instead of `gpus`.
        devices: Likewise.

    Raises:
        BloodcellError: There are fewer GPUs, or both ways are used at once.
    """
    if gpus is None:
        return {"accelerator": accelerator or "auto", "devices": devices if devices is not None else 1}
    if accelerator is not None or devices not in (None, "auto"):  # auto is what trainer=ddp ships
        raise BloodcellError("give trainer.gpus, or trainer.accelerator and trainer.devices, not both")
    if not _is_choice(gpus):
        raise BloodcellError(f"trainer.gpus={gpus}; give a number, -1 for all, or a list such as [0,1]")
    if gpus == 0:
        return {"accelerator": "cpu", "devices": 1}
    import torch

    found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    wanted = max(gpus) + 1 if isinstance(gpus, list) else gpus
    if found == 0 or wanted > found:
        raise BloodcellError(
            f"trainer.gpus={gpus}, but this machine has {found or 'no'} GPU{'s' * (found > 1)} that torch can use; "
            "use trainer.gpus=0 for the CPU"
        )
    return {"accelerator": "gpu", "devices": gpus}


def _is_choice(gpus: Any) -> bool:
    if not isinstance(gpus, list):
        return isinstance(gpus, int) and not isinstance(gpus, bool) and gpus >= -1
    return bool(gpus) and all(type(gpu) is int and gpu >= 0 for gpu in gpus) and len(set(gpus)) == len(gpus)


def best_device(name: str | None) -> str:
    """Return the torch device to evaluate on: the one named, or the best there is.

    Raises:
        BloodcellError: There is no such device.
    """
    import torch

    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if distributed.here().size > 1 and name in (None, "cuda") and counts["cuda"]:
        return f"cuda:{distributed.here().local_rank % counts['cuda']}"
    if name is None:
        return next(device for device, count in counts.items() if count)
    usable = [kind for kind, count in counts.items() if count]
    numbered = [f"{kind}:{number}" for kind, count in counts.items() for number in range(count)]
    if name not in usable + numbered:
        raise BloodcellError(f"device={name} is not there; this machine has {', '.join(usable)}")
    return name
