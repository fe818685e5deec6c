"""Whatever the answers, an interval holds its figure, lies between 0 and 1, and copies do not narrow it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell.metrics.intervals import (
    accuracy_by_image,
    accuracy_by_source,
    macro_f1_by_source,
    macro_recall_by_source,
    recall_by_source,
)

FIGURES = [accuracy_by_image, accuracy_by_source, macro_recall_by_source, macro_f1_by_source]
BY_SOURCE = [accuracy_by_source, macro_recall_by_source, macro_f1_by_source]

answers = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=40
)


def columns(rows):
    """Return labels, predictions and sources."""
    return [label for label, _, _ in rows], [answer for _, answer, _ in rows], [f"s{number}" for *_, number in rows]


def holds(found):
    """Assert what every estimate holds."""
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low
    assert found.sources >= 1


@pytest.mark.parametrize("figure", FIGURES)
@given(rows=answers, random=st.randoms(use_true_random=False))
def test_it_holds_the_figure_and_does_not_depend_on_the_order(figure, rows, random):
    found = figure(*columns(rows))
    holds(found)
    random.shuffle(rows)
    again = figure(*columns(rows))
    np.testing.assert_allclose([again.low, again.value, again.high], [found.low, found.value, found.high], atol=1e-9)
    assert again.sources == found.sources == len({number for *_, number in rows})


@given(rows=answers)
def test_each_class_has_its_own(rows):
    found = recall_by_source(*columns(rows))
    assert set(found) == {label for label, _, _ in rows}
    for estimate in found.values():
        holds(estimate)


@pytest.mark.parametrize("figure", BY_SOURCE)
@given(rows=answers, copies=st.integers(2, 30), which=st.integers(0, 9))
def test_copies_of_sources_that_are_of_one_mind_change_nothing(figure, rows, copies, which):
    alike = {(label, number): (label, answer, number) for label, answer, number in rows}
    once = list(alike.values())
    several = [row for row in once for _ in range(copies if row[2] == which else 1)]
    few, many = figure(*columns(once)), figure(*columns(several))
    # a source with two labels shares its weight between them as it has images
    if figure is not accuracy_by_source or len({number for _, number in alike}) == len(alike):
        np.testing.assert_allclose([many.low, many.value, many.high], [few.low, few.value, few.high], atol=1e-9)


@pytest.mark.parametrize("figure", FIGURES)
@given(sources=st.integers(1, 60), images=st.integers(1, 5), right=st.booleans())
def test_all_right_and_all_wrong_are_not_certain(figure, sources, images, right):
    rows = [("a", "a" if right else "b", number) for number in range(sources) for _ in range(images)]
    found = figure(*columns(rows))
    holds(found)
    assert found.value == float(right)
    assert (found.low < 1 - 0.5 / sources) if right else (found.high > 0.5 / sources)
