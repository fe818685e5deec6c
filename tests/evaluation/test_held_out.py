"""Nothing is judged by a threshold in whose choice it had a part."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.by_source import with_disjoint
from bloodcell.metrics.cross_fit import conformal_outcomes, judging_of, kept_promises
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


def judged(predictions, part="test", trained_on=frozenset()):
    return judging_of(with_disjoint(predictions, frozenset(trained_on)), part, frozenset(trained_on))


def test_thresholds_are_chosen_on_validation_where_that_is_apart():
    judging = judged(both(), trained_on={"another"})
    assert set(judging.chosen_on["split"]) == {"val"}
    assert "validation" in judging.how


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
    judging = judged(predictions, trained_on=trained_on)
    assert judging.chosen_on is None
    assert "cross-fitted" in judging.how


def test_validation_alone_is_cross_fitted():
    assert judged(table("val"), "val").chosen_on is None


def test_cross_fitting_parts_the_sources_and_keeps_the_order_of_the_rows():
    rows = table(sources=17, copies=3).sample(frac=1, random_state=0)
    seen = []

    def decide(choose, judge):
        assert set(choose["source"]).isdisjoint(judge["source"])
        seen.extend(judge["source"].unique())
        return (judge["source"] == "4").to_numpy()

    decided = judged(rows).held_out(decide)
    assert sorted(seen) == sorted(rows["source"].unique())
    assert decided.tolist() == (rows["source"] == "4").tolist()


def test_a_single_source_cannot_be_judged():
    assert judged(table(sources=1, copies=9)) is None


@pytest.mark.parametrize("predictions", [both(), table("test", sources=500)])
def test_promises_and_sets_are_kept_on_what_had_no_part(predictions):
    judging = judged(predictions)
    kept = kept_promises(judging)
    assert [one.error_rate for one in kept] == [0.01, 0.02, 0.05, 0.10]
    assert kept[-1].threshold is not None
    for one in kept:
        assert one.risk is None or one.risk <= one.error_rate + 0.02
    for one in conformal_outcomes(judging):
        assert one.held >= one.level - 0.04
        assert one.single + one.several + one.empty == pytest.approx(1)
        assert one.size == pytest.approx(one.single + 2 * one.several)


def test_the_coverage_counts_every_source_one():
    rows = both()
    kept = kept_promises(judged(rows))[-1]
    test = rows[rows["split"] == "test"]
    answered = test[["p_a", "p_b"]].max(axis=1) >= kept.threshold
    assert kept.coverage == pytest.approx(answered.groupby(test["source"]).mean().mean())
    many = pd.concat([rows, test[test["p_a"] < 0.5].assign(path=lambda t: "copy" + t["path"])], ignore_index=True)
    assert kept_promises(judged(many))[-1].coverage == pytest.approx(kept.coverage)


def test_what_cannot_be_promised_has_no_threshold():
    kept = kept_promises(judged(table(sources=12)))
    assert [(one.threshold, one.coverage, one.risk) for one in kept] == [(None, 0.0, None)] * 4
