"""A chart shows what the eye sees of its values, and no more."""

import re

import numpy as np
import pandas as pd
import pytest

from bloodcell.evaluation.report_charts import history_charts
from bloodcell.evaluation.svg import (
    ABOVE,
    BELOW,
    FINE,
    LEFT,
    RIGHT,
    ROW,
    SIDE,
    Axis,
    Series,
    chart,
    forest,
    thinned,
    ticks_up_to,
)

UNIT = Axis("x", (0.0, 0.5, 1.0))


def test_a_thinned_line_keeps_ends_and_extremes_of_each_column():
    x, y = np.linspace(0, 50, 100_000), np.random.default_rng(0).random(100_000)
    kept = thinned(x, y)
    assert len(kept) <= 4 * (50 * FINE + 1)
    assert kept[0].tolist() == [x[0], y[0]]
    assert kept[-1].tolist() == [x[-1], y[-1]]
    for column in range(50 * FINE):
        inside, shown = np.floor(x * FINE) == column, np.floor(kept[:, 0] * FINE) == column
        assert kept[shown, 1].min() == y[inside].min()
        assert kept[shown, 1].max() == y[inside].max()


def test_a_short_line_keeps_all_its_points_in_their_order():
    x = np.array([9.0, 6.0, 6.0, 1.0])
    y = np.array([1.0, 5.0, 2.0, 7.0])
    assert thinned(x, y).tolist() == np.stack([x, y], axis=1).tolist()


def test_values_lie_where_the_axes_say():
    drawn = chart("w", UNIT, UNIT, [Series((0, 1), (0, 1)), Series((0.5,), (0.5,), "two", "dots")], (300, 200))
    right, bottom = 300 - RIGHT, 200 - BELOW
    assert f'd="M{LEFT}.0 {bottom}.0L{right}.0 {ABOVE}.0"' in drawn
    middle = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert [float(v) for v in middle.groups()] == [(LEFT + right) / 2, (ABOVE + bottom) / 2]


def test_what_lies_beyond_an_axis_is_drawn_at_its_end():
    assert UNIT.part([-1, 0.25, 7]).tolist() == [0, 0.25, 1]


def test_words_are_escaped_and_read_aloud():
    drawn = chart('<b>"', Axis("a<b", (0, 1)), UNIT, [])
    assert 'role="img" aria-label="&lt;b&gt;&#34;"' in drawn
    assert "a&lt;b" in drawn
    assert "<b>" not in drawn


def test_ranges_go_from_low_to_top_and_bars_from_the_axis():
    series = [Series((0,), (0,), shape="ranges", top=(1,)), Series((1,), (0.5,), shape="bars")]
    drawn = chart("w", UNIT, UNIT, series, (300, 200))
    assert f"M{LEFT}.0 {200 - BELOW}.0V{ABOVE}.0" in drawn
    assert f"M{300 - RIGHT}.0 {200 - BELOW}V" in drawn


@pytest.mark.parametrize(
    ("value", "ticks"),
    [
        (0.36, [0, 0.1, 0.2, 0.3, 0.4]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.011, [0, 0.005, 0.01, 0.015]),
        (0.0, [0, 0.0002]),
        (37.0, [0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round_and_reach_the_value(value, ticks):
    assert ticks_up_to(value) == pytest.approx(ticks)


def test_a_forest_plot_has_a_row_for_each_name_with_its_range():
    ranges, dots = Series((0.0, 0.5), (), "one", "ranges", (0.25, 1.0)), Series((0.1, 0.75), (), "one", "dots")
    drawn = str(forest("two <shares>", UNIT, ["a", "<b>"], [ranges, dots], width=240))
    inside = 240 - 2 * SIDE
    lines = re.findall(r"M(\S+) (\S+)H([\d.]+)", drawn)
    places = [ABOVE + ROW * 0.72, ABOVE + ROW * 1.72]
    expected = [(SIDE, places[0], SIDE + inside / 4), (SIDE + inside / 2, places[1], SIDE + inside)]
    assert np.array(lines, float) == pytest.approx(np.array(expected), abs=0.05)
    circles = np.array(re.findall(r'cx="(\S+)" cy="(\S+)"', drawn), float)
    assert circles == pytest.approx(
        np.array([[SIDE + inside * 0.1, places[0]], [SIDE + inside * 0.75, places[1]]]), abs=0.05
    )
    assert drawn.index(">a<") < drawn.index(">&lt;b&gt;<")
    assert f'viewBox="0 0 240 {ABOVE + 2 * ROW + BELOW}"' in drawn


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 12, 13, 100])
def test_each_epoch_has_a_place_of_its_own(epochs):
    history = pd.DataFrame({"epoch": range(1, epochs + 1)}).assign(**{"train/loss": 1.0, "val/loss": 1.0})
    history = history.assign(**{"train/accuracy": 0.5, "val/accuracy": 0.5})
    for drawn in history_charts(history):
        places = [float(place) for place in re.findall(r'<circle cx="([\d.]+)"', drawn["chart"])]
        assert len(places) == 2 * epochs
        gaps = np.diff(places[:epochs])
        assert (gaps > 0).all()
        np.testing.assert_allclose(gaps, np.mean(gaps) if epochs > 1 else 0, atol=0.11)  # of one decimal
