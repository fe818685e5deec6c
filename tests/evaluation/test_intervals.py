"""Intervals of metrics that rest on few sources: known numbers, limits of the range, coverage."""

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import accuracy_score, f1_score, recall_score

from bloodcell.metrics.intervals import Estimate, class_limits, source_correlation
from bloodcell.metrics.parts import count_parts
from bloodcell.metrics.registry import METRICS

#: Name -> the metric's estimate of labels, predictions and sources.
ESTIMATES = {
    metric.name: lambda *columns, metric=metric: metric.estimate(count_parts(*columns))
    for metric in METRICS
    if metric.has_interval
}
accuracy_by_image, accuracy_by_source, macro_recall_by_source, macro_f1_by_source = ESTIMATES.values()
each_estimate = pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=list(ESTIMATES))
CLASSES = ["EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"]


def table(sources=(13, 6, 4, 48), total=620, accuracy=0.85, rho=0.5, seed=0):
    """Labels, predictions and sources of a simulated test set of few sources with many copies."""
    rng = np.random.default_rng(seed)
    labels, predictions, names = [], [], []
    for c, n in enumerate(sources):
        sizes = rng.multinomial(total - 2 * n, rng.dirichlet(np.full(n, 10.0))) + 2
        for s, (size, chance) in enumerate(
            zip(sizes, rng.beta(*(np.array([accuracy, 1 - accuracy]) * (1 - rho) / rho), n), strict=True)
        ):
            right = rng.random(size) < chance
            wrong = CLASSES[(c + 1 + s % 3) % 4]
            labels += [CLASSES[c]] * size
            predictions += np.where(right, CLASSES[c], wrong).tolist()
            names += [f"{c}-{s}"] * size
    return labels, predictions, names


def wilson(p, n, z=1.959964):
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (p + z**2 / (2 * n) - half) / (1 + z**2 / n), (p + z**2 / (2 * n) + half) / (1 + z**2 / n)


def interval_coverage():
    path = Path(__file__).parents[1] / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_values_are_those_of_scikit_learn_with_sample_weights():
    labels, predictions, sources = table()
    _, index, size = np.unique(sources, return_inverse=True, return_counts=True)
    weight = 1 / size[index]
    recalls = recall_score(labels, predictions, average=None, sample_weight=weight)
    assert accuracy_by_image(labels, predictions, sources).value == pytest.approx(
        accuracy_score(labels, predictions), abs=1e-9
    )
    assert accuracy_by_source(labels, predictions, sources).value == pytest.approx(
        accuracy_score(labels, predictions, sample_weight=weight), abs=1e-9
    )
    assert macro_recall_by_source(labels, predictions, sources).value == pytest.approx(recalls.mean(), abs=1e-9)
    assert macro_f1_by_source(labels, predictions, sources).value == pytest.approx(
        f1_score(labels, predictions, average="macro", sample_weight=weight), abs=1e-9
    )


def test_f1_counts_only_classes_that_occur_as_labels():
    labels, predictions = list("aaabbb"), list("aacbba")
    expected = f1_score(labels, predictions, labels=["a", "b"], average="macro")
    assert macro_f1_by_source(labels, predictions, range(6)).value == pytest.approx(expected)


def test_metrics_weigh_images_sources_and_classes_as_they_say():
    labels = ["a"] * 10 + ["b"] * 2
    predictions = ["a"] * 8 + ["b"] * 2 + ["b", "b"]
    sources = ["1"] * 8 + ["2", "2"] + ["3", "3"]  # sources 1 and 3 right, 2 wrong
    assert accuracy_by_image(labels, predictions, sources).value == pytest.approx(10 / 12)
    assert accuracy_by_source(labels, predictions, sources).value == pytest.approx(2 / 3)
    assert macro_recall_by_source(labels, predictions, sources).value == pytest.approx((1 / 2 + 1) / 2)
    assert macro_f1_by_source(labels, predictions, sources).value == pytest.approx(2 / 3)
    assert accuracy_by_image(labels, predictions, sources).sources == 3


def test_a_source_with_two_labels_counts_in_both_classes_and_stays_one_source():
    labels, predictions, sources = list("aabbab"), list("aabbbb"), list("112233")
    assert accuracy_by_source(labels, predictions, sources).value == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert macro_recall_by_source(labels, predictions, sources).value == pytest.approx((1 / 2 + 1) / 2)
    assert accuracy_by_source(labels, predictions, sources).sources == 3


def test_a_source_under_two_labels_widens_the_interval():
    labels, predictions, sources = table()
    tied = [name.replace("1-", "0-") for name in sources]  # the 6 lymphocytes become views of eosinophils
    apart, together = (accuracy_by_image(labels, predictions, s) for s in (sources, tied))
    assert (apart.sources, together.sources) == (71, 65)
    assert together.high - together.low > 1.02 * (apart.high - apart.low)


def test_class_limits_are_beta_quantiles():
    low, high = class_limits(np.array([0.0, 0.5, 1.0]), np.array([4.0, 10.0, 4.0]))
    assert low == pytest.approx([0, beta.ppf(0.025, 5.4, 5.6), beta.ppf(0.025, 4.4, 0.6)])
    assert high == pytest.approx([0.6024, 0.8129, 1], abs=1e-4)  # Clopper and Pearson's for 0 of 4 and 5 of 10
    assert 0.3976 < low[2] < 0.5550  # between Clopper and Pearson's and Jeffreys' for 4 of 4
    outer, _ = class_limits(np.array([0.5, 1.0]), np.array([10.0, 4.0]), inner=1.0)
    assert outer == pytest.approx([0.1871, 0.3976], abs=1e-4)  # Clopper and Pearson's


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.9])
def test_correlation_is_found(rho):
    parts = count_parts(*table(sources=(400, 300, 300, 400), total=20_000, accuracy=0.8, rho=rho))
    assert source_correlation(parts) == pytest.approx(np.full(4, rho), abs=0.07)


def test_few_errors_leave_the_correlation_near_one():
    labels, predictions, sources = table(accuracy=1 - 1e-9)
    predictions[0] = "MONOCYTE"
    assert source_correlation(count_parts(labels, predictions, sources)).min() > 0.9


@pytest.mark.parametrize("accuracy", [0.02, 0.4, 0.8, 0.97])
def test_without_clustering_it_is_close_to_wilson(accuracy):
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, 2500)
    predictions = np.where(rng.random(2500) < accuracy, labels, "other")
    found = accuracy_by_image(labels, predictions, np.arange(2500))
    low, high = wilson(found.value, 2500)
    assert found.low == pytest.approx(low, abs=0.003)
    assert found.high == pytest.approx(high, abs=0.003)
    assert accuracy_by_source(labels, predictions, np.arange(2500)) == found


def test_copies_add_next_to_nothing():
    once = table(total=100, accuracy=0.8, rho=0.9)
    many = tuple(list(column) * 20 for column in once)
    few, copies = accuracy_by_image(*once), accuracy_by_image(*many)
    assert copies.value == pytest.approx(few.value)
    assert copies.high - copies.low > 0.9 * (few.high - few.low)
    naive = np.subtract(*wilson(copies.value, len(many[0]))[::-1])
    assert copies.high - copies.low > 5 * naive


@each_estimate
@pytest.mark.parametrize("sources", [(13, 6, 4, 48), (1, 1, 1, 1), (1, 2, 1, 9), (5,), (1,)])
@pytest.mark.parametrize("wrong", [0.0, 0.5, 1.0])
def test_never_zero_width_and_never_outside(estimate, sources, wrong):
    labels, _, names = table(sources=sources, total=200)
    bad = np.arange(len(labels)) < wrong * len(labels)
    predictions = np.where(bad, np.roll(CLASSES, 1)[[CLASSES.index(x) for x in labels]], labels)
    found = estimate(labels, predictions, names)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.02
    assert found.sources == sum(sources)
    if wrong != 0.5:
        assert found.value == 1 - wrong


def test_one_image():
    assert accuracy_by_image(["a"], ["a"], ["x"]) == Estimate(1.0, pytest.approx(0.025), 1.0, 1)
    assert macro_f1_by_source(["a"], ["b"], ["x"]).high > 0.8


@pytest.mark.parametrize(("right", "sources"), [(1, 1), (3, 3), (2, 3), (5, 8), (9, 10), (0, 4)])
def test_few_sources_of_one_class_have_clopper_and_pearsons_limits(right, sources):
    names = np.repeat(np.arange(sources), 7)
    found = accuracy_by_image(["a"] * len(names), np.where(names < right, "a", "b"), names)
    low = beta.ppf(0.025, right, sources - right + 1) if right else 0
    high = beta.ppf(0.975, right + 1, sources - right) if right < sources else 1
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_few_sources_that_are_all_right_or_all_wrong_are_covered(classes):
    """The corners in which squares alone cover 0.85 to 0.92; the benchmark has more of them."""
    bench = interval_coverage()
    for images in ([[10]] * classes, [[10] * 2] * classes, [[16, 2, 1, 1][: 4 // classes]] * classes):
        rows, covered = bench.coverage_of_few(images), {}
        for name in ("bloodcell", "squares alone"):
            covered[name] = rows[f"{name} covers at least"]
        assert covered["bloodcell"] > 0.95
        assert covered["squares alone"] < 0.93


@each_estimate
def test_order_and_names_do_not_matter(estimate):
    columns = table()
    order = np.random.default_rng(1).permutation(len(columns[0]))
    shuffled = tuple(np.array(column)[order] for column in columns)
    renamed = (*shuffled[:2], ["cell " + name[::-1] for name in shuffled[2]])
    expected = estimate(*columns)
    for columns in (shuffled, renamed):
        found = estimate(*columns)
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


@each_estimate
def test_a_source_more_right_moves_value_and_limits_up(estimate):
    labels, _, names = table()
    predictions, found = np.array(labels), []
    for wrong in ("3-0", "3-1", "0-0", "3-2", "2-0"):
        found.append(estimate(labels, predictions, names))
        predictions = np.where(np.array(names) == wrong, "LYMPHOCYTE", predictions)
    for better, worse in pairwise(found):
        assert (better.value, better.low) > (worse.value, worse.low)
        assert better.low > worse.low
        assert better.high >= worse.high


@each_estimate
def test_more_sources_narrow_the_interval(estimate):
    widths = []
    for times in (1, 3, 9):
        labels, _, names = table(sources=tuple(times * n for n in (4, 4, 4, 8)), total=960)
        share = np.array([int(name.split("-")[1]) % 4 == 0 for name in names])
        found = estimate(labels, np.where(share, "NEUTROPHIL", labels), names)
        widths.append(found.high - found.low)
    assert widths[0] > 1.4 * widths[1] > 1.96 * widths[2]


@pytest.mark.parametrize("source", ["", None, float("nan")])
def test_an_image_without_a_source_is_refused(source):
    with pytest.raises(ValueError, match="the source of an image is missing"):
        count_parts(["a", "a"], ["a", "a"], ["1", source])


@pytest.mark.parametrize(
    ("accuracy", "spread", "rho"), [(0.6, "equal", 0.3), (0.9, "monocytes", 0.9), (0.97, "equal", 0.6)]
)
def test_it_covers_where_the_bootstrap_does_not(accuracy, spread, rho):
    bench = interval_coverage()
    rng = np.random.default_rng(0)
    images = bench.images_of("test", rng)
    counts, expected = bench.simulate(images, bench.spread(accuracy, spread), rho, 300, rng)
    covered = {}
    for figure in bench.FIGURES:
        truth = bench.truth_of(figure, images, expected)
        for method, low, high in bench.intervals_of(figure, images, counts):
            covered[figure, method] = np.mean((low <= truth) & (truth <= high))
    assert min(covered[figure, "bloodcell"] for figure in bench.FIGURES) > 0.92
    assert covered["accuracy", "percentile bootstrap"] < 0.92
    assert covered["accuracy", "naive binomial"] < 0.6


@pytest.mark.parametrize(
    ("design", "spread"), [("few rare", "equal"), ("one_two", "monocytes only"), ("test", "equal")]
)
def test_it_covers_if_rare_classes_have_another_correlation(design, spread):
    """With one correlation for all classes, macro recall would cover 0.43 to 0.75."""
    bench = interval_coverage()
    rng = np.random.default_rng(0)
    images = bench.images_of(design, rng)
    counts, expected = bench.simulate(images, bench.spread(0.6, spread), bench.correlations(design, "small"), 200, rng)
    for figure in bench.FIGURES:
        truth = bench.truth_of(figure, images, expected)
        low, high = bench.ours(figure, images, counts)
        assert np.mean((low <= truth) & (truth <= high)) > 0.92, figure
