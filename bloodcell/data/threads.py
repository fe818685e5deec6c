"""One pool of threads for all work on many files, in order and with bounded memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, computed by several threads, or by the caller's thread if 1.

    Items are taken as needed. At most two results per thread wait for the caller, which limits the memory. Pillow and
    the backends release the interpreter's lock.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    # there is one thread per core: further threads of torch and OpenCV would slow all of them down
    torch = sys.modules.get("torch")  # importing it takes seconds, and the audit does not need it
    of_torch, of_opencv = torch and torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(threads, initializer=lambda: torch and torch.set_num_threads(1))
    waiting = deque[Future[Result]]()
    finished = False
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        finished = True
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)  # after an error or Ctrl+C a large image goes on
        cv2.setNumThreads(of_opencv)
        if torch:
            torch.set_num_threads(of_torch)  # for threads started later
