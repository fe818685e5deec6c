"""What is promised of the answers holds for sources that had no part in choosing the threshold."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from bloodcell.metrics.abstention import (
    CONFIDENCE,
    candidate_ranks,
    joint_confidence,
    least_sources,
    promise,
    risk_coverage,
)
from bloodcell.runtime.errors import BloodcellError
from tests.evaluation.grouped import halves, simulated


def table(rows):
    """Return a predictions table of (probability of a, label, source) rows of classes a and b."""
    found = pd.DataFrame(rows, columns=["p_a", "label", "source"])
    prediction = np.where(found["p_a"] >= 0.5, "a", "b")
    return found.assign(p_b=1 - found["p_a"], prediction=prediction, path=[f"{i}.png" for i in range(len(rows))])


def flawless(sources):
    """Return a predictions table of one right image of each of some sources."""
    return table([(0.9 + 0.09 * i / sources, "a", f"{i}") for i in range(sources)])


def outcome(rows, threshold):
    """Return coverage and risk by source at a threshold, computed source by source."""
    right = rows["label"] == rows["prediction"]
    answered = rows.filter(like="p_").max(axis=1) >= threshold
    by = pd.DataFrame({"answered": answered, "wrong": answered & ~right}).groupby(rows["source"]).mean()
    return by["answered"].mean(), by["wrong"].sum() / max(by["answered"].sum(), 1e-12)


def test_the_curve_counts_every_source_one_and_takes_ties_together():
    curve = risk_coverage(table([(0.9, "a", "1"), (0.9, "b", "1"), (0.6, "a", "1"), (0.2, "b", "2"), (0.1, "a", "3")]))
    assert list(curve["threshold"]) == [0.9, 0.8, 0.6]
    assert curve["coverage"].to_numpy() == pytest.approx([5 / 9, 8 / 9, 1])
    assert curve["risk"].to_numpy() == pytest.approx([4 / 5, 4 / 8, 4 / 9])  # a third of source 1, the whole of 3


def test_where_sources_are_unknown_every_image_counts_one():
    rows = table([(0.9, "a", ""), (0.8, "b", ""), (0.7, "a", ""), (0.6, "a", "")])
    assert list(risk_coverage(rows)["coverage"]) == pytest.approx([0.25, 0.5, 0.75, 1])
    assert risk_coverage(rows)["risk"].iloc[-1] == pytest.approx(0.25)


@pytest.mark.parametrize(("error_rate", "skill"), [(0.05, 3.0), (0.1, 2.5)])
def test_errors_are_at_most_what_was_promised_as_often_as_it_says(error_rate, skill):
    """The risk over all sources, which 3,000 others tell, is above the rate in no more than 10 % of the promises."""
    rng = np.random.default_rng(0)
    everyone = simulated(rng, 3000, skill, copies=(3, 6))
    found = [promise(simulated(rng, 150, skill, copies=(3, 12)), error_rate) for _ in range(100)]
    attained = [one for one in found if one.attained]
    assert len(attained) > 80
    broken = [outcome(everyone, one.threshold)[1] > error_rate for one in attained]
    assert sum(broken) <= 100 * (1 - CONFIDENCE)


def test_a_rate_below_that_of_any_threshold_is_promised_in_at_most_1_case_of_10():
    """The hardest case: confidence tells nothing, copies are all right or all wrong, the rate is just too low."""
    rng = np.random.default_rng(4)

    def attained():
        source = np.repeat(np.arange(150), 3)
        label = np.where(rng.random(150) < 0.101, "b", "a")[source]
        return promise(table(list(zip(rng.uniform(0.5, 1, 450), label, source.astype(str), strict=True))), 0.1).attained

    share = np.mean([attained() for _ in range(400)])
    assert 0.01 < share <= 0.1


def test_in_the_median_of_20_splits_the_answers_are_as_many_and_as_right_as_promised():
    rng = np.random.default_rng(1)
    images = simulated(rng, 400)
    promised, kept = [], []
    for _ in range(20):
        choose, judge = halves(images, rng)
        found = promise(choose, 0.05)
        assert found.attained
        assert (found.coverage, found.risk) == pytest.approx(outcome(choose, found.threshold))
        promised.append(found.coverage)
        kept.append(outcome(judge, found.threshold))
    coverage, risk = np.transpose(kept)
    assert abs(np.median(coverage - promised)) <= 0.02
    assert np.median(risk) <= 0.05
    assert np.median(coverage) > 0.6


def test_a_rate_is_kept_if_the_same_sources_chose_the_best_of_15_epochs():
    """15 nets of one skill, none of which keeps 10 %; the luckiest is chosen: it gets no promise in 9 of 10 cases."""
    rng, attained = np.random.default_rng(5), {1: 0, 15: 0}
    for _ in range(200):
        wrong = rng.random((15, 23)) < 0.105
        label = np.where(wrong[wrong.sum(axis=1).argmin()], "b", "a")
        rows = table([(0.9 + i / 1000, label[i], f"{i}") for i in range(23)])
        for compared in attained:
            attained[compared] += promise(rows, 0.1, compared).attained
    assert attained[1] > 100
    assert attained[15] <= 20


def test_a_choice_among_epochs_wants_more_sources():
    """Without errors: as many as Clopper and Pearson's limit at a tenth of 1 - CONFIDENCE."""
    rows = table([(0.9, "a", f"{i}") for i in range(44)])
    limit = beta.ppf(1 - (1 - CONFIDENCE) / 10, 1, 44)
    assert promise(rows, limit + 1e-6, compared=10).attained
    assert not promise(rows, limit - 1e-6, compared=10).attained
    assert promise(rows, 0.1, compared=1) == promise(rows, 0.1)


def test_several_promises_hold_together_less_often():
    assert [joint_confidence(number) for number in (1, 4, 5, 20)] == pytest.approx([0.9, 0.6, 0.5, 0])


def test_copies_prove_nothing():
    """Of 20 sources without an error, 5 % cannot be promised however many their copies; of as many images, it can."""
    copies = table([(0.9, "a", f"{i % 20}") for i in range(2000)])
    assert not promise(copies, 0.05).attained
    assert promise(copies.assign(source=[str(i) for i in range(2000)]), 0.05).attained


def test_without_errors_the_rate_is_that_of_clopper_and_pearson():
    limit = beta.ppf(CONFIDENCE, 1, 30)  # the upper limit of 0 errors of 30
    rows = table([(0.9, "a", f"{i}") for i in range(30)])
    assert candidate_ranks(30, limit + 1e-6) == [30]
    assert promise(rows, limit + 1e-6).attained
    assert not promise(rows, limit - 1e-6).attained


def test_where_nothing_can_be_promised_nothing_is():
    rows = simulated(np.random.default_rng(2), 60)
    found = promise(rows, 0.001)
    assert not found.attained
    assert found.threshold == np.inf
    assert found.coverage == 0
    assert np.isnan(found.risk)
    assert not promise(rows.iloc[:0], 0.1).attained


def test_a_promise_rests_on_the_images_and_not_on_their_order():
    rows = simulated(np.random.default_rng(3), 120)
    assert promise(rows, 0.1) == promise(rows, 0.1)
    assert promise(rows.sample(frac=1, random_state=1), 0.1).threshold == promise(rows, 0.1).threshold


def test_all_are_answered_where_all_are_right_enough():
    found = promise(table([(0.6 + i / 1000, "a", f"{i}") for i in range(100)]), 0.1)
    assert found.threshold == 0
    assert found.coverage == 1
    assert found.risk == 0


@pytest.mark.parametrize("error_rate", [0, 1, -0.1, 2])
def test_an_error_rate_is_a_share(error_rate):
    with pytest.raises(BloodcellError, match=r"give a share, e.g. 0.02"):
        promise(table([(0.9, "a", "1")]), error_rate)


def test_fewer_candidates_where_fewer_can_pass():
    assert candidate_ranks(20, 0.05) == []
    ranks = candidate_ranks(100, 0.1)
    assert ranks[0] == 100
    assert all(0.9**rank <= (1 - CONFIDENCE) / len(ranks) for rank in ranks)


@pytest.mark.parametrize(("rate", "sources"), [(0.01, 230), (0.02, 114), (0.05, 45), (0.10, 22)])
@pytest.mark.parametrize("compared", [1, 15])
def test_a_flawless_classifier_needs_as_many_sources_as_it_says(rate, sources, compared):
    needed = least_sources(rate, compared)
    assert compared > 1 or needed == sources
    enough, fewer = (promise(flawless(number), rate, compared) for number in (needed, needed - 1))
    assert enough.attained
    assert not fewer.attained
    assert fewer.obstacle == f"that takes {needed} sources without an error, and there are {needed - 1}"


def test_errors_are_named_if_the_sources_are_enough():
    made = promise(flawless(50).assign(prediction="b"), 0.05)
    assert made.obstacle == "that takes fewer errors, or more than these 50 sources"
