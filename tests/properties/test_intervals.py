"""Whatever the answers, an interval contains its value, lies between 0 and 1, and copies do not narrow it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell.metrics.parts import count_parts
from bloodcell.metrics.registry import METRICS

WITH_INTERVAL = [metric for metric in METRICS if metric.has_interval]
BY_SOURCE = [metric for metric in WITH_INTERVAL if not metric.value]

answers = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=40
)


def estimated(metric, rows):
    """Return a metric's estimate of (label, answer, number of the source) rows."""
    labels, answers, numbers = zip(*rows, strict=True)
    return metric.estimate(count_parts(labels, answers, [f"s{number}" for number in numbers]))


def holds(found):
    """Assert what every estimate holds."""
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low
    assert found.sources >= 1


@pytest.mark.parametrize("metric", WITH_INTERVAL, ids=lambda metric: metric.name)
@given(rows=answers, random=st.randoms(use_true_random=False))
def test_it_contains_the_value_and_does_not_depend_on_the_order(metric, rows, random):
    found = estimated(metric, rows)
    holds(found)
    random.shuffle(rows)
    again = estimated(metric, rows)
    np.testing.assert_allclose([again.low, again.value, again.high], [found.low, found.value, found.high], atol=1e-9)
    assert again.sources == found.sources == len({number for *_, number in rows})


@pytest.mark.parametrize("metric", BY_SOURCE, ids=lambda metric: metric.name)
@given(rows=answers, copies=st.integers(2, 30), which=st.integers(0, 9))
def test_copies_of_sources_that_are_of_one_mind_change_nothing(metric, rows, copies, which):
    alike = {(label, number): (label, answer, number) for label, answer, number in rows}
    once = list(alike.values())
    several = [row for row in once for _ in range(copies if row[2] == which else 1)]
    few, many = estimated(metric, once), estimated(metric, several)
    # a source with two labels shares its weight between them as it has images
    if metric.name != "accuracy_by_source" or len({number for _, number in alike}) == len(alike):
        np.testing.assert_allclose([many.low, many.value, many.high], [few.low, few.value, few.high], atol=1e-9)


@pytest.mark.parametrize("metric", WITH_INTERVAL, ids=lambda metric: metric.name)
@given(sources=st.integers(1, 60), images=st.integers(1, 5), right=st.booleans())
def test_all_right_and_all_wrong_are_not_certain(metric, sources, images, right):
    rows = [("a", "a" if right else "b", number) for number in range(sources) for _ in range(images)]
    found = estimated(metric, rows)
    holds(found)
    assert found.value == float(right)
    assert (found.low < 1 - 0.5 / sources) if right else (found.high > 0.5 / sources)
