"""Threads that read and compute: results are in order, and one thread reads at a time if that is fast enough."""

import threading
import time
import weakref

import cv2
import numpy as np
import pytest
import torch

from bloodcell.data import decoder
from bloodcell.data.decoder import image_batches, read_and_compute


def at_once(read_seconds, compute_seconds, streams):
    """Return the results, and the most threads that read at the same time after each one's first two items."""
    reading, most, done, lock = set(), [0], {}, threading.Lock()

    def read(item):
        me = threading.get_ident()
        with lock:
            reading.add(me)
            done[me] = done.get(me, 0) + 1
            if len(done) == streams and min(done.values()) > 2:
                most[0] = max(most[0], len(reading))
        time.sleep(read_seconds)
        with lock:
            reading.remove(me)
        return item

    def compute(item):
        time.sleep(compute_seconds)
        return -item

    return list(read_and_compute(read, compute, range(40), 2, streams)), most[0]


def test_one_thread_reads_at_a_time_if_computing_takes_longer():
    assert at_once(0.002, 0.02, 2) == (list(range(0, -40, -1)), 1)


def test_threads_read_at_the_same_time_if_reading_takes_longer():
    assert at_once(0.02, 0.002, 2) == (list(range(0, -40, -1)), 2)


@pytest.mark.parametrize("streams", [1, 2])
def test_thread_counts_of_libraries_are_restored(streams):
    before = torch.get_num_threads(), cv2.getNumThreads()
    seen = list(read_and_compute(lambda item: cv2.getNumThreads(), lambda one: one, range(4), 2, streams))
    assert seen == [1] * 4
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


@pytest.mark.parametrize(
    ("sides", "expected"),
    [([], []), ([1, 1], [2]), ([10, 10, 10], [2, 1]), ([1, 20, 1], [2, 1]), ([20, 20, 1, 1], [1, 1, 2])],
)
def test_images_are_grouped_by_memory(sides, expected, monkeypatch):
    monkeypatch.setattr(decoder, "_BATCH_BYTES", 600)
    pictures = [np.full((side, side, 3), number, np.uint8) for number, side in enumerate(sides)]
    found = list(image_batches(pictures))
    assert [len(batch) for batch in found] == expected
    flat = [picture for batch in found for picture in batch]
    assert all(one is other for one, other in zip(flat, pictures, strict=True))


def test_a_large_image_is_freed_before_the_next_is_read():
    alive = []

    class Picture(np.ndarray):
        """An array whose end can be watched."""

    def read():
        for _ in range(3):
            assert not any(picture() is not None for picture in alive)
            picture = np.empty((2400, 2400, 3), np.uint8).view(Picture)
            alive.append(weakref.ref(picture))
            yield picture
            del picture

    for pictures in image_batches(read()):
        assert len(pictures) == 1
        del pictures[:]
    assert len(alive) == 3
