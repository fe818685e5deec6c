"""Differences of two systems: scipy's t where it is one, honest where two systems hardly differ, and their coverage."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind, ttest_rel

from bloodcell.metrics import paired
from bloodcell.metrics.paired import Difference, differences, mean_difference, typical_difference
from bloodcell.metrics.parts import by_class_and_source, by_image, by_source, count_parts
from bloodcell.runtime.errors import BloodcellError

SIZES = (13, 6, 4, 48)  # sources of four classes


def table(rows, split="test"):
    """Return a predictions table of (label, prediction, source) rows."""
    found = pd.DataFrame(rows, columns=["label", "prediction", "source"])
    return found.assign(path=[f"{i}.png" for i in range(len(rows))], split=split)


def parts_of(sizes, labels="abcd"):
    """Return the parts of classes with one source for each of their sizes, (images, ...)."""
    rows = [(labels[c], f"{c}-{s}") for c, images in enumerate(sizes) for s, m in enumerate(images) for _ in range(m)]
    names = [label for label, _ in rows]
    return count_parts(names, names, [source for _, source in rows])


def test_one_class_without_prior_is_scipys_paired_t():
    rng = np.random.default_rng(0)
    one, other = rng.random(12), rng.random(12)
    found = mean_difference(parts := parts_of([[1] * 12]), one - other, *by_class_and_source(parts), prior=0)
    expected = ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx((one - other).mean())
    assert found.sources == 12


def test_two_classes_without_prior_are_scipys_welch():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.1, 0.2, 5), rng.normal(-0.1, 0.05, 9)
    parts = parts_of([[1] * 5, [1] * 9])
    found = mean_difference(parts, np.concatenate([first, second]), *by_class_and_source(parts), prior=0)
    expected = ttest_ind(first, -second, equal_var=False).confidence_interval(0.95)  # of first.mean() + second.mean()
    assert (found.low, found.high) == pytest.approx((expected.low / 2, expected.high / 2))


def test_the_values_are_the_differences_of_the_figures():
    one = table([("a", "a", "1")] * 3 + [("a", "b", "2")] + [("b", "b", "3")] * 2 + [("b", "b", "4")] * 4)
    other = one.assign(prediction=["a", "b", "b", "b", "b", "b", "b", "b", "b", "a"])
    found = differences(one, other)["test"]
    assert found["accuracy"].value == pytest.approx(3 / 10)
    assert found["accuracy_by_source"].value == pytest.approx((2 / 3 + 0 + 0 + 1 / 4) / 4)
    assert found["macro_recall_by_source"].value == pytest.approx(((2 / 3 + 0) / 2 + (0 + 1 / 4) / 2) / 2)
    assert found["accuracy"].images == 10
    assert found["accuracy"].sources == 4
    for name, back in differences(other, one)["test"].items():
        assert (back.value, back.low, back.high) == pytest.approx(
            (-found[name].value, -found[name].high, -found[name].low)
        )


def test_the_weights_are_those_of_the_figures():
    parts, apart = parts_of([[1, 9], [5]]), np.array([1.0, 0.0, 0.5])
    values = [mean_difference(parts, apart, *weights(parts)).value for weights in (by_image, by_source)]
    assert values == pytest.approx([(1 + 2.5) / 15, 1.5 / 3])


def test_equal_systems_have_an_interval_that_more_sources_narrow():
    widths = []
    for sources in (4, 40):
        one = table([(label, "a", f"{label}{s}") for label in "ab" for s in range(sources) for _ in range(3)])
        found = differences(one, one)["test"]["accuracy"]
        assert found.value == 0
        assert -found.low == found.high > 0
        widths.append(found.high)
    assert widths[0] > 4 * widths[1]
    assert widths[1] < 0.05


def test_one_source_a_class_has_an_interval_within_the_range():
    one = table([("a", "a", "1"), ("b", "b", "2")])
    found = differences(one, one.assign(prediction="a"))["test"]["accuracy"]
    assert -1 <= found.low < found.value == 0.5 < found.high <= 1


def test_small_differences_within_sources_are_told_from_whole_ones():
    assert typical_difference(np.zeros(5)) == 1
    assert typical_difference(np.array([0.0, 1.0, -1.0])) == 1
    assert typical_difference(np.full(100, 0.02)) < 0.1


def test_a_source_under_two_labels_widens_the_interval():
    rows = [(label, label if s % 3 else "x", f"{label}{s}") for label in "ab" for s in range(12)]
    apart, tied = table(rows), table([(label, guess, source[1:]) for label, guess, source in rows])
    widths = [differences(one, one.assign(prediction=one["label"]))["test"]["accuracy"] for one in (apart, tied)]
    assert [width.sources for width in widths] == [24, 12]
    assert widths[1].high - widths[1].low > 1.2 * (widths[0].high - widths[0].low)


def test_rows_are_matched_by_what_they_are_of():
    rng = np.random.default_rng(0)
    one = table([(label, rng.choice(["a", "b"]), f"s{i % 7}") for i, label in enumerate("ab" * 20)])
    other = one.assign(prediction=rng.permutation(one["prediction"]))
    shuffled = other.sample(frac=1, random_state=1)
    assert differences(one, shuffled) == differences(one, other)
    assert differences(shuffled, one)["test"]["accuracy"].value == -differences(one, other)["test"]["accuracy"].value


def test_tables_of_other_images_or_labels_are_one_clear_line():
    one = table([("a", "a", "1"), ("b", "b", "2")])
    for other in (one[:1], one.assign(path=["0.png", "2.png"]), one.assign(label="a"), one.assign(split="val")):
        with pytest.raises(BloodcellError, match=r"\(2 and \d rows\) are not of the same images and labels"):
            differences(one, other)


def test_unknown_sources_give_the_accuracy_alone_without_an_interval():
    one = table([("a", "a", ""), ("b", "b", "2"), ("b", "a", "2"), ("b", "a", "")])
    found = differences(one, one.assign(prediction="b"))
    assert found == {"test": {"accuracy": Difference(-0.25, None, None, 4, 0)}}


def test_unseen_sources_of_a_test_part_have_differences_of_their_own():
    one = table([("a", "a", "1"), ("a", "a", "2"), ("b", "b", "3"), ("b", "b", "4")])
    found = differences(one, one.assign(prediction="a"), frozenset({"3"}))
    assert found["test"]["accuracy"].value == 0.5
    assert found["test_disjoint"]["accuracy"].value == pytest.approx(1 / 3)
    assert found["test_disjoint"]["accuracy"].sources == 3


def simulated(*arguments):
    """See the benchmark, which crosses many more corners."""
    path = Path(__file__).parents[1] / "benchmarks" / "paired_coverage.py"
    spec = importlib.util.spec_from_file_location("paired_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.simulated(np.random.default_rng(0), *arguments)


@pytest.mark.parametrize("rate", [(0.05,) * 4, (0.15,) * 4, (0.02, 0.02, 0.4, 0.02)])
@pytest.mark.parametrize(("better", "rho"), [(0.5, 0.3), (0.8, 0.1), (0.8, 0.6)])
def test_intervals_cover(rate, better, rho):
    parts, apart, truths = simulated(SIZES, rate, better, rho, 300)
    for weights in (by_image, by_source, by_class_and_source):
        weight, share = weights(parts)
        truth = truths @ share / share.sum()
        found = [mean_difference(parts, run, weight, share) for run in apart]
        assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.92


@pytest.mark.parametrize("dominating", [1, 2, 3])
@pytest.mark.parametrize("sources", [(20,), (40,), (13, 6, 4, 48)])
def test_it_covers_if_few_sources_dominate(sources, dominating, monkeypatch):
    """With 80 % of the images of a class in one to three sources, t alone covers 0.5 to 0.95."""
    covered = {}
    for name, most in (("ours", paired.MOST), ("uneven", np.inf)):
        monkeypatch.setattr(paired, "MOST", most)
        parts, apart, truths = simulated(sources, (0.4,) * len(sources), 0.8, 0.5, 300, dominating)
        weight, share = by_image(parts)
        truth = truths @ share / share.sum()
        found = [mean_difference(parts, run, weight, share) for run in apart]
        assert all(one.low <= one.value <= one.high for one in found)
        covered[name] = np.mean([one.low <= truth <= one.high for one in found])
    assert covered["uneven"] < covered["ours"]
    assert covered["ours"] > 0.92
    assert dominating > 1 or covered["uneven"] < 0.9


def test_even_weights_are_left_as_they_are():
    rng = np.random.default_rng(2)
    parts = parts_of([rng.integers(5, 20, 12)])
    found = mean_difference(parts, rng.random(12), *by_image(parts))
    assert found.high - found.value == pytest.approx(found.value - found.low)


def test_the_plain_t_would_not_cover():
    """Which is why there is a prior: systems that hardly differ look alike in all the parts of a class."""
    parts, apart, truths = simulated(SIZES, (0.01, 0.01, 0.2, 0.01), 0.9, 0.8, 300)
    weight, share = by_class_and_source(parts)
    truth = truths @ share / share.sum()
    plain, ours = ([mean_difference(parts, run, weight, share, prior) for run in apart] for prior in (0, 1))
    coverage = [np.mean([one.low <= truth <= one.high for one in found]) for found in (plain, ours)]
    assert coverage[0] < 0.85
    assert coverage[1] > 0.92
