"""Differential counts on a terminal of 80 columns: tables side by side, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from bloodcell.evaluation.differentials.slide_counts import FEW, HALF_WIDTH, REASONS, SlideCount
from bloodcell.metrics.differential import PerWhite
from bloodcell.runtime.console import counted

#: Columns of the terminal, and between tables side by side; longest name of a class; slides that are shown.
WIDTH, GAP, NAME, MOST = 80, 2, 24, 12


def text_of(slides: Sequence[SlideCount]) -> list[str]:
    """Return lines: a table for each slide, as many side by side as fit, and what was left out."""
    shown = slides[:MOST]
    blocks = [_block(one) for one in shown if one.result is not None]
    width = max((len(line) for block in blocks for line in block), default=0)
    beside = max(1, (WIDTH + GAP) // (width + GAP))
    lines = [""] if blocks else []
    for start in range(0, len(blocks), beside):
        rows = zip_longest(*blocks[start : start + beside], fillvalue="")
        lines += [(" " * GAP).join(f"{cell:<{width}}" for cell in row).rstrip() for row in rows]
        lines.append("")
    lines += [line for one in shown for line in _sentences(one)]
    return lines + ([f"and {counted(len(slides) - MOST, 'other slide')}"] if len(slides) > MOST else [])


def _block(slide: SlideCount) -> list[str]:
    assert slide.result is not None
    shares = slide.result.shares
    width = min(NAME, max(len("class"), *(len(one.name) for one in shares)))
    title = f"{_short(slide.name, NAME)}: {counted(slide.counted, 'white cell')}"
    rows = [
        f"{_short(one.name, width):<{width}}{one.count:>7,}{100 * one.share:>7.1f}"
        f"{f'{100 * one.low:.1f} to {100 * one.high:.1f}':>15}"
        for one in shares
    ]
    return [title, f"{'class':<{width}}{'cells':>7}{'%':>7}{'95 % interval':>15}", *rows]


def _sentences(slide: SlideCount) -> Iterator[str]:
    """Yield what is left out, no white cell or confirmed, and how many more cells narrow the widest interval."""
    if text := left_out_text(slide):
        yield f"{slide.name}: {counted(slide.cells, 'cell')} found; left out: {text}"
    if text := others_text(slide):
        yield f"{slide.name}: {text}"
    if slide.confirmed:
        yield f"{slide.name}: {slide.confirmed:,} of {counted(slide.counted, 'white cell')} confirmed by a human"
    if text := needed_text(slide):
        yield f"{slide.name}: {text}"


def left_out_text(slide: SlideCount) -> str:
    """Return how many cells were left out for each reason; '' if all count."""
    return ", ".join(f"{number:,} {REASONS[name]}" for name, number in slide.left_out.items() if number)


def others_text(slide: SlideCount) -> str:
    """Return how many cells there are of classes that are no white cells, also per 100 white cells; '' if none."""
    ratios = {one.name: one for one in slide.result.others} if slide.result else {}
    parts = [f"{count:,} {name}{_ratio(ratios.get(name))}" for name, count in slide.others.items() if count]
    return f"beside the white cells: {'; '.join(parts)}" if parts else ""


def _ratio(one: PerWhite | None) -> str:
    if one is None:
        return ""
    limits = f"{one.low:.1f} to {one.high:,.1f}" if math.isfinite(one.high) else f"{one.low:.1f} or more"
    return f" ({one.per_100:,.1f} per 100 white cells, {limits})"


def needed_text(slide: SlideCount) -> str:
    """Return how many more cells narrow the widest interval of a slide; '' if it is narrow, or nobody can tell."""
    if slide.result is None or slide.needed == 0 or slide.counted < FEW:
        return ""
    name, points = slide.widest.name, f"+-{100 * HALF_WIDTH:.0f} points"
    if slide.needed is None:
        return f"no number of cells narrows {name} to {points}: more held-out sources do, or a human who confirms"
    return f"some {_rounded(slide.needed):,} more white cells would narrow {name} to {points}"


def _rounded(number: int) -> int:
    """Return a number with two significant digits: it is an estimate."""
    return int(float(f"{number:.2g}"))


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
