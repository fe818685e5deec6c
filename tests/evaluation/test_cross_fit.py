"""No image is tested with a threshold that was chosen with its source."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.by_source import rows_by_part
from bloodcell.metrics.cross_fit import promise_results, set_results, threshold_test
from bloodcell.metrics.predictions import predictions_table

CLASSES = ["a", "b"]


def table(split="test", sources=300, copies=2, seed=0, prefix=""):
    """Return predictions that are right as often as they are sure."""
    generator = np.random.default_rng(seed)
    sure = np.repeat(generator.uniform(0.5, 1.0, sources) ** 0.3, copies)
    label = np.repeat(generator.integers(0, 2, sources), copies)
    right = np.repeat(generator.random(sources), copies) < sure
    named = np.where(right, label, 1 - label)
    rows = pd.DataFrame({"path": [f"{prefix}{i}.png" for i in range(len(label))], "split": split})
    rows = rows.assign(
        source=np.repeat([f"{prefix}{i}" for i in range(sources)], copies), label=np.array(CLASSES)[label]
    )
    return predictions_table(rows, CLASSES, np.where(np.eye(2)[named] == 1, sure[:, None], 1 - sure[:, None]))


def both(**changes):
    return pd.concat([table("val", prefix="v"), table("test", seed=1, **changes)], ignore_index=True)


def of_part(predictions, part="test", trained_on=frozenset()):
    return threshold_test(rows_by_part(predictions, frozenset(trained_on)), part, frozenset(trained_on))


def test_thresholds_are_chosen_on_validation_where_that_is_apart():
    test = of_part(both(), trained_on={"another"})
    assert set(test.chosen_on["split"]) == {"val"}
    assert "validation" in test.how


@pytest.mark.parametrize(
    ("predictions", "trained_on"),
    [
        (both(), {"v7"}),  # validation shares a source with training
        (both(prefix="v"), set()),  # and with test
        (both().assign(source=""), set()),  # or nobody knows
        (table("test"), set()),
    ],
)
def test_they_are_cross_fitted_where_it_is_not(predictions, trained_on):
    test = of_part(predictions, trained_on=trained_on)
    assert test.chosen_on is None
    assert "cross-fitted" in test.how


def test_validation_alone_is_cross_fitted():
    assert of_part(table("val"), "val").chosen_on is None


def test_cross_fitting_parts_the_sources_and_keeps_the_order_of_the_rows():
    whole = table(sources=17, copies=3).sample(frac=1, random_state=0)
    seen = []

    def decide(choose, rows):
        assert set(choose["source"]).isdisjoint(rows["source"])
        seen.extend(rows["source"].unique())
        return (rows["source"] == "4").to_numpy()

    decided = of_part(whole).decisions(decide)
    assert sorted(seen) == sorted(whole["source"].unique())
    assert decided.tolist() == (whole["source"] == "4").tolist()


def test_a_single_source_cannot_be_of_part():
    assert of_part(table(sources=1, copies=9)) is None


@pytest.mark.parametrize("predictions", [both(), table("test", sources=500)])
def test_promises_and_sets_hold_on_images_that_had_no_part(predictions):
    test = of_part(predictions)
    kept = promise_results(test)
    assert [one.error_rate for one in kept] == [0.01, 0.02, 0.05, 0.10]
    assert kept[-1].attained
    for one in kept:
        assert not one.attained or one.risk <= one.error_rate + 0.02
    for one in set_results(test):
        assert one.coverage >= one.level - 0.04
        assert one.single + one.several + one.empty == pytest.approx(1)
        assert one.size == pytest.approx(one.single + 2 * one.several)


def test_sets_are_told_by_class():
    test = of_part(both())
    results = set_results(test)
    assert [(one.level, one.each_class) for one in results] == [(0.9, False), (0.95, False), (0.9, True), (0.95, True)]
    for one in results:
        shares = test.rows.groupby("label")["source"].nunique() / test.rows["source"].nunique()
        assert one.coverage == pytest.approx(sum(shares[name] * one.by_class[name] for name in CLASSES))
        assert not one.each_class or min(one.by_class.values()) >= one.level - 0.06


def test_less_is_promised_if_validation_also_chose_the_epoch():
    parts = rows_by_part(both())
    one, many = (threshold_test(parts, "test", frozenset(), compared) for compared in (1, 500))
    assert (one.compared, many.compared) == (1, 500)
    assert "also chose the classifier among 500" in many.how
    assert promise_results(many)[-1].threshold > promise_results(one)[-1].threshold
    own = threshold_test(rows_by_part(table("test")), "test", frozenset(), 500)
    assert own.compared == 1  # the test part chose no epoch
    assert threshold_test(parts, "val", frozenset(), 500).compared == 500


def test_the_coverage_counts_every_source_one():
    rows = both()
    kept = promise_results(of_part(rows))[-1]
    test = rows[rows["split"] == "test"]
    answered = test[["p_a", "p_b"]].max(axis=1) >= kept.threshold
    assert kept.coverage == pytest.approx(answered.groupby(test["source"]).mean().mean())
    many = pd.concat([rows, test[test["p_a"] < 0.5].assign(path=lambda t: "copy" + t["path"])], ignore_index=True)
    assert promise_results(of_part(many))[-1].coverage == pytest.approx(kept.coverage)


def test_an_error_rate_that_cannot_be_promised_has_no_threshold():
    kept = promise_results(of_part(table(sources=12)))
    assert not any(one.attained or one.coverage for one in kept)
