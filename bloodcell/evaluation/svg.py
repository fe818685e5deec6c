"""Charts as inline SVG: coloured by the page's style, told apart by dashes too, thinned to what the eye sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

#: Room beside the drawing for the ticks' texts and the axes' titles: left, right, above, below, in pixels.
LEFT, RIGHT, ABOVE, BELOW = 56, 20, 10, 42
#: Columns of a pixel that are told apart: a line keeps at most four points in each.
FINE = 2


@dataclass(frozen=True)
class Axis:
    """A horizontal or vertical axis, from the first of its ticks to the last; `form` writes a tick."""

    title: str
    ticks: Sequence[float]
    form: str = "{:.0%}"

    def part(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values lie between the first tick, 0, and the last one, 1."""
        first, last = self.ticks[0], self.ticks[-1]
        return np.clip((np.asarray(values, float) - first) / ((last - first) or 1.0), 0.0, 1.0)


@dataclass(frozen=True)
class Series:
    """What a chart shows.

    Attributes:
        x: (N,).
        y: (N,).
        kind: Class of the style: one and two are data, guide is what they are compared with.
        shape: line; dots; both; bars, from the horizontal axis up; or ranges, from y to `top`.
        top: Upper ends of ranges, (N,).
    """

    x: ArrayLike
    y: ArrayLike
    kind: str = "one"
    shape: str = "line"
    top: ArrayLike = ()


PERCENT = (0.0, 0.25, 0.5, 0.75, 1.0)


def chart(words: str, x: Axis, y: Axis, series: Sequence[Series], size: tuple[int, int] = (340, 260)) -> Markup:
    """Draw a chart.

    Args:
        words: What it shows, for those who do not see it.
        x: The horizontal axis.
        y: The vertical axis.
        series: Drawn in this order.
        size: Width and height in pixels.
    """
    frame = _Frame(x, y, *size)
    drawn = [_draw(frame, one) for one in series]
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" style="max-width:{}px">{}</svg>').format(
        words, *size, size[0], Markup("").join([frame.axes(), *drawn])
    )


@dataclass(frozen=True)
class _Frame:
    """Where on the drawing a value lies."""

    x: Axis
    y: Axis
    width: int
    height: int

    def across(self, values: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(LEFT + self.x.part(values) * (self.width - LEFT - RIGHT))

    def down(self, values: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(ABOVE + (1 - self.y.part(values)) * (self.height - ABOVE - BELOW))

    def axes(self) -> Markup:
        """Return grid lines, the ticks' texts and the titles."""
        left, right, bottom = LEFT, self.width - RIGHT, self.height - BELOW
        lines = [f"M{left} {place:.1f}H{right}" for place in self.down(self.y.ticks)]
        texts = [
            *(_text(left - 6, place + 4, self.y.form.format(tick), "end") for tick, place in self._ticks(self.y)),
            *(_text(place, bottom + 16, self.x.form.format(tick)) for tick, place in self._ticks(self.x)),
            _text((left + right) / 2, self.height - 6, self.x.title),
            _text(-(ABOVE + bottom) / 2, 11, self.y.title, turned=True),
        ]
        return Markup('<path class="grid" d="{}"/>').format("".join(lines)) + Markup("").join(texts)

    def _ticks(self, axis: Axis) -> zip[tuple[float, Any]]:
        return zip(axis.ticks, self.across(axis.ticks) if axis is self.x else self.down(axis.ticks), strict=True)


def _text(x: float, y: float, text: str, anchor: str = "middle", turned: bool = False) -> Markup:
    turn = Markup(' transform="rotate(-90)"') if turned else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, turn, escape(text))


def _draw(frame: _Frame, series: Series) -> Markup:
    """Draw one series; each of its shapes is one SVG path, the dots circles."""
    x, y = frame.across(series.x), frame.down(series.y)
    path, dots = "", Markup("")
    if series.shape in ("line", "both"):
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in thinned(x, y))
    if series.shape == "bars":
        path = "".join(f"M{a:.1f} {frame.height - BELOW}V{b:.1f}" for a, b in zip(x, y, strict=True))
    if series.shape == "ranges":
        path = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(x, y, frame.down(series.top), strict=True))
    if series.shape in ("dots", "both"):
        dots = Markup("").join(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(a, b) for a, b in zip(x, y, strict=True)
        )
    line = Markup('<path d="{}"/>').format(path) if path else ""
    return Markup('<g class="{} {}">{}{}</g>').format(series.kind, series.shape, line, dots)


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points of a line that can be seen: of each pixel column the first, lowest, highest and last.

    Jugel et al. 2014, M4: A Visualization-Oriented Time Series Data Aggregation, doi:10.14778/2732951.2732953.

    Args:
        x: In pixels, rising or falling, (N,).
        y: In pixels, (N,).

    Returns:
        (M, 2), in their order.
    """
    columns = pd.Series(y).groupby(np.floor(x * FINE))
    places = np.arange(len(y))
    ends = pd.Series(places).groupby(np.floor(x * FINE)).agg(["first", "last"]).to_numpy().ravel()
    kept = np.unique(np.concatenate([ends, columns.idxmin().to_numpy(), columns.idxmax().to_numpy()]))
    return np.stack([x[kept], y[kept]], axis=1)


def ticks_up_to(value: float) -> list[float]:
    """Return up to six round ticks from 0 to `value` or somewhat above."""
    wanted = max(value, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted * 0.999)
    return [round(step * number, 9) for number in range(max(math.ceil(value / step - 1e-9), 1) + 1)]
