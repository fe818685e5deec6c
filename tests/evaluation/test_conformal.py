"""Sets hold the true class as often as is asked for, in sources that had no part in choosing the threshold."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.conformal import class_thresholds, conformal_sets, conformal_threshold, coverage_by_source
from bloodcell.runtime.errors import BloodcellError
from tests.evaluation.grouped import halves, simulated


def table(rows):
    """Return a predictions table of (probability of the true class a, source) rows."""
    found = pd.DataFrame(rows, columns=["p_a", "source"])
    return found.assign(p_b=1 - found["p_a"], label="a", path=[f"{i}.png" for i in range(len(rows))])


def covered(choose, judge, alpha):
    return coverage_by_source(judge, conformal_sets(judge, conformal_threshold(choose, alpha)))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_coverage_by_source_is_within_2_points_in_the_median_of_20_splits(alpha):
    rng = np.random.default_rng(0)
    images = simulated(rng, 400, skill=2.0)
    found = [covered(*halves(images, rng), alpha) for _ in range(20)]
    assert abs(np.median(found) - (1 - alpha)) <= 0.02


@pytest.mark.parametrize("sources", [12, 60])
def test_coverage_is_what_was_asked_for_on_average_however_few_the_sources(sources):
    """Images of 12 sources, the copies of a source nearly alike and of very unequal number, cover no less."""
    rng = np.random.default_rng(1)
    everyone = simulated(rng, 3000, skill=2.0, copies=(2, 3))
    found = [covered(simulated(rng, sources, 2.0, 0.95, (1, 60)), everyone, 0.1) for _ in range(200)]
    assert 0.9 - 2 * np.std(found) / np.sqrt(200) <= np.mean(found) <= 0.9 + 1.5 / (sources + 1)


def test_with_one_image_a_source_the_threshold_is_that_of_split_conformal_prediction():
    """The ceil((K + 1)(1 - alpha))-th smallest score 1 - p."""
    rng = np.random.default_rng(2)
    for sources in (9, 10, 19, 37, 100):
        p = rng.permutation(np.linspace(0.1, 0.9, sources))
        scores = np.sort(1 - p)
        expected = 1 - scores[int(np.ceil((sources + 1) * 0.9 - 1e-9)) - 1]
        assert conformal_threshold(table([(value, f"{i}") for i, value in enumerate(p)]), 0.1) == pytest.approx(
            expected
        )


def test_every_source_weighs_the_same_whatever_its_copies():
    singles = [(0.2 + i / 100, f"{i}") for i in range(40)]
    many = [row for row in singles for _ in range(1 + (int(row[1]) % 7) * 10)]
    assert conformal_threshold(table(many), 0.1) == conformal_threshold(table(singles), 0.1)


def test_too_few_sources_give_all_classes():
    rows = table([(0.9, f"{i % 8}") for i in range(800)])
    assert conformal_threshold(rows, 0.1) == 0
    assert conformal_sets(rows, 0.0).all()
    assert conformal_threshold(rows.assign(source=[f"{i % 9}" for i in range(800)]), 0.1) == 0.9


def test_the_order_of_the_images_does_not_matter():
    rows = simulated(np.random.default_rng(3), 80)
    assert conformal_threshold(rows.sample(frac=1, random_state=1), 0.1) == conformal_threshold(rows, 0.1)


def test_coverage_counts_every_source_one():
    rows = table([(0.9, "1"), (0.2, "1"), (0.3, "2")])
    sets = conformal_sets(rows, 0.5)
    assert sets.tolist() == [[True, False], [False, True], [False, True]]
    assert coverage_by_source(rows, sets) == pytest.approx(1 / 4)


def uneven(rng, sources):
    """Return predictions in which class d is the rarest and told from the others the worst."""
    rows = simulated(rng, sources, skill=2.5, copies=(2, 5))
    weak = rows["label"] == "d"
    p = rows[["p_a", "p_b", "p_c", "p_d"]].to_numpy() * np.where(weak.to_numpy()[:, None], [1, 1, 1, 0.15], 1)
    rows[["p_a", "p_b", "p_c", "p_d"]] = p / p.sum(axis=1, keepdims=True)
    return rows


def test_a_threshold_for_each_class_covers_each_class():
    rng = np.random.default_rng(6)
    everyone = uneven(rng, 3000)
    rare = (everyone["label"] == "d").to_numpy()
    found = []
    for _ in range(60):
        rows = uneven(rng, 300)
        thresholds = conformal_threshold(rows, 0.1), class_thresholds(rows, 0.1)
        found.append([coverage_by_source(everyone[rare], conformal_sets(everyone[rare], one)) for one in thresholds])
    one, each = np.mean(found, axis=0)
    assert one < 0.7
    assert 0.88 < each < 0.95


def test_the_thresholds_of_classes_are_those_of_their_own_images():
    rows = simulated(np.random.default_rng(7), 200)
    own = [conformal_threshold(rows[rows["label"] == name], 0.1) for name in "abcd"]
    assert class_thresholds(rows, 0.1).tolist() == own
    few = rows[rows["label"] != "d"]
    assert class_thresholds(few, 0.1).tolist() == [*own[:3], 0]  # never seen: in every set
    assert conformal_sets(few, class_thresholds(few, 0.1))[:, 3].all()


@pytest.mark.parametrize("alpha", [0, 1, 5])
def test_alpha_is_a_share(alpha):
    with pytest.raises(BloodcellError, match=r"give a share, e.g. 0.1"):
        conformal_threshold(table([(0.9, "1")]), alpha)
