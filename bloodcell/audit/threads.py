"""Two cores without processes: threads, as OpenCV and NumPy let go of the interpreter while they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

from bloodcell.runtime.hardware import cpu_count

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep OpenCV and BLAS to one thread each, since the callers' threads fill the cores already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `function` of each item, in order, computed on all cores this process may use."""
    with single_threaded(), ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(function, items))
