"""Calibration figures are scikit-learn's and torchmetrics', and a planted temperature is found again."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.classification import MulticlassCalibrationError
from torchmetrics.functional.classification.calibration_error import _ce_compute

from bloodcell.metrics.intervals import mean_estimate
from bloodcell.metrics.parts import by_image, parts_of
from bloodcell.metrics.predictions import matrix_of, predictions_table
from bloodcell.metrics.reliability import (
    LEAST,
    MOST,
    brier_score,
    ece_by_chance,
    fit_temperature,
    reliability,
    tempered,
    tempered_table,
)
from bloodcell.metrics.summary import metrics_of

CLASSES = ["NEU", "EOS", "MON", "LYM"]


def table_of(probabilities, labels, source=""):
    """Return a predictions table of probabilities (N, C) and true classes (N,) by number."""
    samples = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(len(labels))],
            "split": "val",
            "source": source,
            "label": [CLASSES[label] for label in labels],
        }
    )
    return predictions_table(samples, CLASSES[: probabilities.shape[1]], probabilities)


def simulated(temperature, count=4000, seed=0):
    """Return logits (N, 4) and labels that are drawn from what they say at a temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (count, 4))
    chances = softmax(logits / temperature, axis=1)
    return logits, (chances.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1)


def torchmetrics_ece(probabilities, labels, bins):
    """Return torchmetrics' error in float64, after a look that its metric, which counts in float32, means the same."""
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found = float(_ce_compute(torch.from_numpy(top), torch.from_numpy(right), bins, norm="l1"))
    metric = MulticlassCalibrationError(probabilities.shape[1], n_bins=bins, norm="l1")
    assert float(metric(torch.from_numpy(probabilities), torch.from_numpy(labels))) == pytest.approx(found, abs=1e-6)
    return found


def mean_loss(table):
    return log_loss([CLASSES.index(name) for name in table["label"]], matrix_of(table), labels=range(4))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("spread", "bins"), [(0.3, 15), (3, 15), (30, 15), (3, 7)])
def test_figures_are_those_of_torchmetrics_and_scikit_learn(seed, spread, bins):
    generator = np.random.default_rng(seed)
    probabilities = softmax(generator.normal(0, spread, (500, 4)), axis=1)
    labels = generator.integers(0, 3, 500)  # LYM never occurs
    rows = table_of(probabilities, labels)
    found = reliability(rows, bins)
    assert found.ece == pytest.approx(torchmetrics_ece(probabilities, labels, bins), abs=1e-9)
    brier = sum(brier_score_loss(labels == i, probabilities[:, i]) for i in range(4))
    assert brier_score(rows) == pytest.approx(brier, abs=1e-9)
    assert found.share.sum() == pytest.approx(1)
    assert found.share @ found.accuracy == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert found.share @ found.confidence == pytest.approx(probabilities.max(axis=1).mean())


def test_edges_of_bins_are_torchmetrics():
    """A bin has its lower edge, and a probability of 1 a bin of its own."""
    top = np.array([1.0, 0.5, 0.75, 1.0, 0.5, 0.999])
    probabilities, labels = np.stack([top, 1 - top], axis=1), np.array([0, 1, 0, 1, 0, 0])
    found = reliability(table_of(probabilities, labels), bins=4)
    assert found.share.tolist() == pytest.approx([2 / 6, 2 / 6, 2 / 6])
    assert found.confidence.tolist() == pytest.approx([0.5, 0.8745, 1])
    assert found.accuracy.tolist() == [0.5, 1, 0.5]
    assert found.ece == pytest.approx(torchmetrics_ece(probabilities, labels, 4), abs=1e-9)
    assert found.ece == pytest.approx((0 + 0.1255 + 0.5) / 3)


def test_closed_forms():
    sure = np.eye(4)[[0, 1, 2, 3]]
    right, wrong = table_of(sure, [0, 1, 2, 3]), table_of(sure, [1, 2, 3, 0])
    assert (reliability(right).ece, brier_score(right)) == (0, 0)
    assert (reliability(wrong).ece, brier_score(wrong)) == (1, 2)
    even = table_of(np.full((4, 4), 0.25), [0, 1, 2, 3])
    found = reliability(even)
    assert (found.ece, brier_score(even)) == pytest.approx((0, 0.75))
    assert (found.confidence.tolist(), found.accuracy.tolist(), found.share.tolist()) == ([0.25], [0.25], [1])
    two = table_of(np.array([[0.8, 0.2], [0.8, 0.2]]), [0, 1])
    assert (reliability(two).ece, brier_score(two)) == pytest.approx((0.3, (2 * 0.04 + 2 * 0.64) / 2))


def test_limits_rest_on_sources():
    logits, labels = simulated(1, count=300)
    probabilities = softmax(logits, axis=1)
    unknown = reliability(table_of(probabilities, labels))
    assert np.isnan(unknown.low).all()
    assert np.isnan(unknown.high).all()
    table = table_of(probabilities, labels, [f"s{i // 3}" for i in range(300)])
    known = reliability(table)
    assert ((known.low <= known.accuracy) & (known.accuracy <= known.high) & (known.low < known.high)).all()
    last = table[probabilities.max(axis=1) >= 14 / 15]
    parts = parts_of(last)
    expected = mean_estimate(parts, *by_image(parts))
    assert (known.accuracy[-1], known.low[-1], known.high[-1]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


@pytest.mark.parametrize("copies", [1, 6])
def test_a_calibrated_classifier_is_within_chance_in_19_of_20_cases(copies):
    """Images of a source are right or wrong together."""
    generator, beyond = np.random.default_rng(0), []
    for _ in range(100):
        top = np.repeat(generator.uniform(0.5, 1, 60), copies)
        wrong = np.repeat(generator.random(60), copies) >= top
        rows = table_of(
            np.stack([top, 1 - top], axis=1), wrong.astype(int), np.repeat(np.arange(60), copies).astype(str)
        )
        beyond.append(reliability(rows.assign(source="")).ece > ece_by_chance(rows))
        assert reliability(rows.assign(source="")).ece > 0.03
    assert np.mean(beyond) <= 0.1


def test_what_chance_allows_is_the_binomials():
    """100 images of confidence 0.8 have an error above 0.08 in 1 of 20 cases; copies of 100 count as no more."""
    top = np.full(100, 0.8)
    labels = (np.arange(100) % 5 == 0).astype(int)
    rows = table_of(np.stack([top, 1 - top], axis=1), labels, [f"s{i}" for i in range(100)])
    found = ece_by_chance(rows)
    assert found == pytest.approx(max(binom.ppf([0.025, 0.975], 100, 0.8) / 100 - 0.8), abs=0.011)
    copies = pd.concat([rows.assign(path=f"{i}" + rows["path"]) for i in range(9)], ignore_index=True)
    assert ece_by_chance(copies) == pytest.approx(found, abs=0.011)
    assert ece_by_chance(copies.assign(source="")) == pytest.approx(found / 3, abs=0.01)
    assert ece_by_chance(copies.sample(frac=1, random_state=0)) == ece_by_chance(copies)


def test_a_confidence_that_is_too_high_is_beyond_chance():
    logits, labels = simulated(2.5, count=300)
    rows = table_of(softmax(logits, axis=1), labels, [f"s{i // 3}" for i in range(300)])
    assert reliability(rows).ece > ece_by_chance(rows)


def test_every_part_has_its_calibration():
    logits, labels = simulated(1, count=60)
    table = table_of(softmax(logits, axis=1), labels).assign(
        split=["val"] * 40 + ["test"] * 20, set=["one", "two"] * 20 + ["one"] * 20
    )
    parts = {"val": slice(0, 40), "val[one]": slice(0, 40, 2), "val[two]": slice(1, 40, 2), "test": slice(40, 60)}
    metrics = metrics_of(table)
    for part, rows in parts.items():
        expected = reliability(table.iloc[rows]).ece, brier_score(table.iloc[rows])
        assert (metrics[f"{part}/ece"], metrics[f"{part}/brier"]) == expected
    assert metrics_of(table[:0]) == {}


@pytest.mark.parametrize("planted", [0.2, 0.7, 1.0, 1.8, 5.0])
def test_a_planted_temperature_is_found(planted):
    logits, labels = simulated(planted, count=40_000)
    table = table_of(softmax(logits, axis=1), labels)
    found = fit_temperature(table)
    assert found == pytest.approx(planted, rel=0.05)
    mended = tempered_table(table, found)
    for other in (0.97 * found, 1.03 * found):  # it is the least loss
        assert mean_loss(mended) < mean_loss(tempered_table(table, other))
    if planted != 1:
        assert reliability(mended).ece < 0.03 < reliability(table).ece


def test_any_constant_may_be_added_to_logits():
    logits, labels = simulated(1.8, count=500)
    one = fit_temperature(table_of(softmax(logits, axis=1), labels))
    assert fit_temperature(table_of(softmax(logits + 7.5, axis=1), labels)) == pytest.approx(one, rel=1e-6)


def test_every_source_counts_one():
    """A source of 50 images of which the net is too sure, and 200 sources of one image each."""
    logits, labels = simulated(1, count=250)
    labels[200:] = (logits[200:].argmax(axis=1) + 1) % 4
    probabilities = softmax(logits, axis=1)
    single = [f"s{i}" for i in range(200)]
    known = fit_temperature(table_of(probabilities, labels, single + ["copies"] * 50))
    once = fit_temperature(table_of(probabilities[:200], labels[:200], single))
    unknown = fit_temperature(table_of(probabilities, labels, [*single, *[""] * 50]))
    assert known == pytest.approx(once, rel=0.1)
    assert unknown > 1.5 * known
    twice = np.repeat(np.arange(200), 2)
    copied = table_of(probabilities[twice], labels[twice], [single[i] for i in twice])
    assert fit_temperature(copied) == pytest.approx(once, rel=1e-6)


def test_the_temperature_is_bounded():
    logits, _ = simulated(1, count=100)
    probabilities = softmax(logits, axis=1)
    assert LEAST < fit_temperature(table_of(probabilities, probabilities.argmax(axis=1))) < 1
    assert fit_temperature(table_of(probabilities, probabilities.argmin(axis=1))) == pytest.approx(MOST)
    sure_and_wrong = table_of(np.eye(4)[[0, 1, 2, 3]], [0, 1, 2, 0])
    assert LEAST <= fit_temperature(sure_and_wrong) <= MOST


@pytest.mark.parametrize("sources", [2, 5, 20])
def test_a_temperature_of_few_sources_does_no_harm(sources):
    """The log loss of new data is that of temperature 1 if that is right, and lower if it is far off."""
    changes = {}
    for planted in (1.0, 2.0):
        logits, _ = simulated(planted, count=2000, seed=99)
        chances = softmax(logits / planted, axis=1)
        before, *after = (
            -(chances * log_softmax(logits / one, axis=1)).sum(axis=1).mean()
            for one in (1.0, *(fitted_to(sources, planted, seed) for seed in range(60)))
        )
        changes[planted] = np.mean(after) - before
    assert changes[1.0] < 0.01
    assert changes[2.0] < -0.01


def fitted_to(sources, planted, seed):
    logits, labels = simulated(planted, sources, seed)
    return fit_temperature(table_of(softmax(logits, axis=1), labels, [f"s{i}" for i in range(sources)]))


def test_the_temperature_has_a_prior_of_40_sources():
    """If all have confidence p, and a share a of n sources is right, p becomes the mean of 40 times p and n times a."""
    for right, sources in ((0, 2), (5, 10), (30, 40), (20, 200)):
        labels = (np.arange(sources) >= right).astype(int)
        rows = table_of(np.tile([0.9, 0.1], (sources, 1)), labels, [f"s{i}" for i in range(sources)])
        expected = (40 * 0.9 + right) / (40 + sources)
        assert fit_temperature(rows) == pytest.approx(
            min(np.log(9) / max(np.log(expected / (1 - expected)), 1e-9), MOST), rel=1e-4
        )


def test_tempered_probabilities_are_those_of_divided_logits():
    logits, _ = simulated(1, count=50)
    for temperature in (LEAST, 0.5, 3.0, MOST):
        found = tempered(softmax(logits, axis=1), temperature)
        np.testing.assert_allclose(found, np.exp(log_softmax(logits / temperature, axis=1)), rtol=1e-9)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    probabilities = softmax(logits, axis=1)
    assert tempered(probabilities, 1.0) is probabilities
    assert tempered(np.empty((0, 4)), 2.0).shape == (0, 4)
    np.testing.assert_allclose(tempered(np.array([[1.0, 0.0]]), 2.0), [[1, 0]], atol=1e-100)


@settings(deadline=None)
@given(
    weights=st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda values: sum(values) > 0.1),
    temperature=st.floats(LEAST, MOST),
)
def test_the_order_of_the_classes_stays(weights, temperature):
    before = np.array([weights]) / sum(weights)
    after = tempered(before, temperature)
    assert (np.diff(after[0][before[0].argsort(kind="stable")]) >= 0).all()
    assert np.isfinite(after).all()
    assert (after.max() - before.max()) * (1 - temperature) >= -1e-12  # below 1 surer, above 1 less


def test_higher_temperatures_are_less_sure():
    logits, _ = simulated(1, count=50)
    tops = [tempered(softmax(logits, axis=1), t).max(axis=1) for t in (0.05, 0.3, 0.9, 1.0, 1.1, 4.0, 20.0)]
    assert (np.diff(tops, axis=0) <= 0).all()
    assert (tops[-1] < tops[0] - 0.1).all()


def test_a_tempered_table_predicts_the_same():
    logits, labels = simulated(2, count=200)
    table = table_of(softmax(logits, axis=1), labels)
    mended = tempered_table(table, 2.5)
    assert list(mended.columns) == list(table.columns)
    pd.testing.assert_frame_equal(mended[table.columns[:5]], table[table.columns[:5]])
    assert [CLASSES[i] for i in matrix_of(mended).argmax(axis=1)] == table["prediction"].tolist()
    np.testing.assert_array_equal(matrix_of(mended), tempered(matrix_of(table), 2.5))
    pd.testing.assert_frame_equal(tempered_table(table, 1.0), table)
