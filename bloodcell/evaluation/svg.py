"""Charts as inline SVG, coloured by the page's style sheet; lines are told apart by dashes too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from numpy.typing import ArrayLike

from bloodcell.metrics.parts import Floats

#: Margins for the ticks' texts and the axes' titles: left, right, above, below, in pixels.
LEFT, RIGHT, ABOVE, BELOW = 56, 20, 10, 42
#: Height of a row of a forest plot, and its margins for the ticks' texts at both sides, in pixels.
ROW, SIDE = 36, 20
#: Columns in a pixel: a line keeps at most four points in each.
FINE = 2
PERCENT = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Axis:
    """A horizontal or vertical axis, from the first of its ticks to the last; `form` formats a tick."""

    title: str
    ticks: Sequence[float]
    form: str = "{:.0%}"

    def part(self, values: ArrayLike) -> Floats:
        """Return where values lie between the first tick, 0, and the last one, 1."""
        first, last = self.ticks[0], self.ticks[-1]
        return np.clip((np.asarray(values, float) - first) / ((last - first) or 1.0), 0.0, 1.0)


@dataclass(frozen=True)
class Series:
    """Values that a chart shows, x and y, (N,)."""

    x: ArrayLike
    y: ArrayLike
    kind: str = "one"  # class in the style sheet: one and two are data, guide is what they are compared with
    shape: str = "line"  # line; dots; both; bars, from the horizontal axis up; or ranges, from y to `top`
    top: ArrayLike = ()  # upper ends of ranges, (N,)


def chart(label: str, x: Axis, y: Axis, series: Sequence[Series], size: tuple[int, int] = (340, 260)) -> Markup:
    """Draw a chart of some series, in their order; size is in pixels, and the label is for screen readers."""
    right, bottom = size[0] - RIGHT, size[1] - BELOW

    def across(values: ArrayLike) -> Floats:
        return np.asarray(LEFT + x.part(values) * (right - LEFT))

    def down(values: ArrayLike) -> Floats:
        return np.asarray(ABOVE + (1 - y.part(values)) * (bottom - ABOVE))

    grid = "".join(f"M{LEFT} {place:.1f}H{right}" for place in down(y.ticks))
    drawn = [
        Markup('<path class="grid" d="{}"/>').format(grid),
        *(_text(LEFT - 6, at + 4, y.form.format(tick), "end") for tick, at in zip(y.ticks, down(y.ticks), strict=True)),
        *(_text(at, bottom + 16, x.form.format(tick)) for tick, at in zip(x.ticks, across(x.ticks), strict=True)),
        _text((LEFT + right) / 2, size[1] - 6, x.title),
        _text(-(ABOVE + bottom) / 2, 11, y.title, turned=True),
        *(_drawn(one, across(one.x), down(one.y), down(one.top), bottom) for one in series),
    ]
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" style="max-width:{}px">{}</svg>').format(
        label, *size, size[0], Markup("").join(drawn)
    )


def forest(label: str, x: Axis, names: Sequence[str], series: Sequence[Series], width: int = 340) -> Markup:
    """Draw a forest plot: a row for each name, with what the series have for it on the horizontal axis.

    Args:
        label: For screen readers.
        x: The axis.
        names: From top to bottom, (N,).
        series: With x, (N,): dots; or ranges, from x to `top`. Their y is not used.
        width: In pixels.
    """
    bottom = ABOVE + ROW * len(names)

    def across(values: ArrayLike) -> Floats:
        return np.asarray(SIDE + x.part(values) * (width - 2 * SIDE))

    grid = "".join(f"M{place:.1f} {ABOVE}V{bottom}" for place in across(x.ticks))
    places = np.array([ABOVE + ROW * (number + 0.72) for number in range(len(names))])
    drawn = [
        Markup('<path class="grid" d="{}"/>').format(grid),
        *(_text(at, bottom + 16, x.form.format(tick)) for tick, at in zip(x.ticks, across(x.ticks), strict=True)),
        _text(width / 2, bottom + 34, x.title),
        *(_text(SIDE, at - 11, name, "start") for name, at in zip(names, places, strict=True)),
        *(_row_marks(one, across(one.x), across(one.top), places) for one in series),
    ]
    size = width, bottom + BELOW
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" style="max-width:{}px">{}</svg>').format(
        label, *size, width, Markup("").join(drawn)
    )


def _row_marks(series: Series, x: Floats, top: Floats, places: Floats) -> Markup:
    if series.shape == "ranges":
        path = "".join(f"M{a:.1f} {y:.1f}H{b:.1f}" for a, b, y in zip(x, top, places, strict=True))
        marks = Markup('<path d="{}"/>').format(path)
    else:
        circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"/>')
        marks = Markup("").join(circle.format(a, y) for a, y in zip(x, places, strict=True))
    return Markup('<g class="{} {}">{}</g>').format(series.kind, series.shape, marks)


def _text(x: float, y: float, text: str, anchor: str = "middle", turned: bool = False) -> Markup:
    turn = Markup(' transform="rotate(-90)"') if turned else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, turn, escape(text))


def _drawn(series: Series, x: Floats, y: Floats, top: Floats, bottom: int) -> Markup:
    path, dots = "", Markup("")
    if series.shape in ("line", "both"):
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in thinned(x, y))
    if series.shape == "bars":
        path = "".join(f"M{a:.1f} {bottom}V{b:.1f}" for a, b in zip(x, y, strict=True))
    if series.shape == "ranges":
        path = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(x, y, top, strict=True))
    if series.shape in ("dots", "both"):
        circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"/>')
        dots = Markup("").join(circle.format(a, b) for a, b in zip(x, y, strict=True))
    line = Markup('<path d="{}"/>').format(path) if path else ""
    return Markup('<g class="{} {}">{}{}</g>').format(series.kind, series.shape, line, dots)


def thinned(x: Floats, y: Floats) -> Floats:
    """Return the visible points of a line: in each pixel column the first, lowest, highest and last.

    Jugel et al. 2014, M4: A Visualization-Oriented Time Series Data Aggregation, doi:10.14778/2732951.2732953. x, (N,),
    rises or falls; x, y and the result, (M, 2), are in pixels.
    """
    columns = pd.Series(y).groupby(np.floor(x * FINE))
    ends = pd.Series(np.arange(len(y))).groupby(np.floor(x * FINE)).agg(["first", "last"]).to_numpy().ravel()
    kept = np.unique(np.concatenate([ends, columns.idxmin().to_numpy(), columns.idxmax().to_numpy()]))
    return np.stack([x[kept], y[kept]], axis=1)


def ticks_up_to(value: float) -> list[float]:
    """Return up to six round ticks from 0 to `value` or somewhat above."""
    wanted = max(value, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted * 0.999)
    return [round(step * number, 9) for number in range(max(math.ceil(value / step - 1e-9), 1) + 1)]
