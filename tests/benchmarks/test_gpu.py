"""The share of time in which a GPU waits, from the spans of its kernels."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tests.benchmarks.gpu import idle_share, kernels


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        ([], None),
        ([(3, 3)], None),
        ([(0, 10)], 0),
        ([(0, 1), (3, 4)], 0.5),
        ([(3, 4), (0, 1)], 0.5),
        ([(0, 4), (1, 2), (8, 10), (9, 10)], 0.4),  # kernels of two streams overlap
        ([(0, 2), (1, 3), (3, 4)], 0),
    ],
)
def test_idle_share(spans, share):
    assert idle_share(spans) == (None if share is None else pytest.approx(share))


def test_spans_of_the_profiler():
    """A region that is only named is no work."""
    with profile(activities=[ProfilerActivity.CPU]) as seen, record_function("named"):
        torch.ones(100).sum()
    spans = kernels(seen.events(), torch.autograd.DeviceType.CPU)
    assert all(start <= end for start, end in spans)
    assert 2 <= len(spans) == sum(event.name != "named" for event in seen.events())
    assert kernels(seen.events(), torch.autograd.DeviceType.CUDA) == []
