"""Decision curves: the net benefit is that of its definition, source by source."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.decision import decision_curve

ROWS = pd.DataFrame(
    [(0.9, "a", "1"), (0.7, "a", "1"), (0.6, "b", "2"), (0.2, "a", "3"), (0.1, "b", "4")],
    columns=["p_a", "label", "source"],
).assign(path="", p_b=0.5)


@pytest.mark.parametrize(
    ("threshold", "right", "wrong"), [(0.05, 2, 2), (0.2, 2, 1), (0.5, 1, 1), (0.65, 1, 0), (0.8, 0.5, 0)]
)
def test_it_is_right_actions_less_false_alarms_at_their_price(threshold, right, wrong):
    found = decision_curve(ROWS, "a", np.array([threshold]))
    price = threshold / (1 - threshold)
    assert found.benefit == pytest.approx((right - price * wrong) / 4)  # of four sources
    assert found.everyone == pytest.approx((2 - price * 2) / 4)


def test_copies_change_nothing():
    once, twice = (decision_curve(rows, "a") for rows in (ROWS, pd.concat([ROWS, ROWS[:2]], ignore_index=True)))
    assert once.benefit == pytest.approx(twice.benefit)
    assert len(once.thresholds) == 99
