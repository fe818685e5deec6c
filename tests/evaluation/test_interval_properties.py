"""Whatever the labels, predictions and sources: intervals hold their value, and copies of a source prove nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.evaluation.intervals import (
    accuracy_by_image,
    accuracy_by_source,
    macro_f1_by_source,
    macro_recall_by_source,
    recall_by_source,
)

FIGURES = [accuracy_by_image, accuracy_by_source, macro_recall_by_source, macro_f1_by_source]
NAMES = st.sampled_from(["a", "b", "c"])
#: Label, prediction and source of each image.
IMAGES = st.lists(st.tuples(NAMES, NAMES, st.integers(0, 6)), min_size=1, max_size=40)


def columns(images):
    """Return labels, predictions and sources; a source has one label."""
    labels, predictions, sources = zip(*images, strict=True)
    return list(labels), list(predictions), [f"{label}{source}" for label, source in zip(labels, sources, strict=True)]


def numbers(estimate):
    return estimate.value, estimate.low, estimate.high


@pytest.mark.parametrize("figure", FIGURES)
@given(images=IMAGES)
@settings(max_examples=60)
def test_the_value_lies_in_its_interval(figure, images):
    found = figure(*columns(images))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0
    assert found.sources == len(set(columns(images)[2]))


@given(images=IMAGES)
@settings(max_examples=60)
def test_so_do_those_of_each_class(images):
    for name, found in recall_by_source(*columns(images)).items():
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert name in columns(images)[0]


@pytest.mark.parametrize("figure", FIGURES)
@given(images=IMAGES, order=st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_order_does_not_matter(figure, images, order):
    shuffled = list(images)
    order.shuffle(shuffled)
    assert numbers(figure(*columns(shuffled))) == pytest.approx(numbers(figure(*columns(images))), abs=1e-9)


@pytest.mark.parametrize("figure", FIGURES)
@given(images=IMAGES, names=st.permutations(range(7)))
@settings(max_examples=40)
def test_names_of_sources_do_not_matter(figure, images, names):
    renamed = [(label, prediction, names[source]) for label, prediction, source in images]
    assert numbers(figure(*columns(renamed))) == pytest.approx(numbers(figure(*columns(images))), abs=1e-9)


@pytest.mark.parametrize("figure", [accuracy_by_source, macro_recall_by_source])
@given(right=st.lists(st.tuples(NAMES, st.booleans()), min_size=1, max_size=12), copies=st.integers(2, 8))
@settings(max_examples=60)
def test_exact_copies_do_not_narrow(figure, right, copies):
    images = [(label, label if good else "z", number) for number, (label, good) in enumerate(right)]
    once, many = figure(*columns(images)), figure(*columns(images * copies))
    assert many.value == pytest.approx(once.value)
    assert many.high - many.low >= (once.high - once.low) * 0.999


@pytest.mark.parametrize("figure", FIGURES)
@given(labels=st.lists(NAMES, min_size=1, max_size=30), sources=st.integers(1, 9))
@settings(max_examples=40)
def test_all_right_and_all_wrong(figure, labels, sources):
    names = [f"{label}{number % sources}" for number, label in enumerate(labels)]
    right, wrong = figure(labels, labels, names), figure(labels, ["z"] * len(labels), names)
    assert (right.value, right.high) == (1, 1)
    assert (wrong.value, wrong.low) == (0, 0)
    assert right.low < 1
    assert wrong.high > 0


@pytest.mark.parametrize("figure", [accuracy_by_image, accuracy_by_source, macro_recall_by_source])
@given(images=IMAGES, which=st.integers(0, 39))
@settings(max_examples=60)
def test_one_more_right_does_not_lower_the_value(figure, images, which):
    labels, predictions, sources = columns(images)
    better = list(predictions)
    better[which % len(better)] = labels[which % len(better)]
    assert figure(labels, better, sources).value >= figure(labels, predictions, sources).value - 1e-9


@given(st.lists(NAMES, min_size=1, max_size=30))
@settings(max_examples=30)
def test_one_source_proves_next_to_nothing(labels):
    found = accuracy_by_image(labels, labels, ["s"] * len(labels))
    assert found.sources == 1
    assert found.low < 0.5
    assert np.isfinite(found.low)
