"""Names in figures: as they are, in whatever script."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

from matplotlib import rcParams
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from bloodcell.runtime.console import say


def as_written(names: Iterable[str]) -> dict[str, Any]:
    """Return properties of matplotlib's texts for these names: a $ is no formula, and all letters are drawn.

    Letters that the usual font lacks are taken from other fonts of the machine; those that none has become boxes.
    """
    further = (_further_font(letter) for letter in sorted(set().union(*names)))
    families = dict.fromkeys((*rcParams["font.family"], *further))
    return {"parse_math": False, "fontfamily": [family for family in families if family]}


def font_file(letters: str) -> str:
    """Return the file of one font for a text: the usual one, or one that has the first letter which that lacks."""
    further = (_further_font(letter) for letter in sorted(set(letters)))
    return findfont(FontProperties(family=next(filter(None, further), rcParams["font.family"])))


@cache
def _further_font(letter: str) -> str:
    """Return the family that draws a letter which the usual one lacks; '' if it has it, or none does."""
    usual = findfont(FontProperties(family=rcParams["font.family"]))
    if not letter.isprintable() or _draws(usual, letter):
        return ""
    for font in sorted(fontManager.ttflist, key=lambda font: (font.style != "normal", font.weight != 400, font.name)):
        # matplotlib's font of last resort has every letter, as a box
        if not font.name.startswith("Last Resort") and _draws(font.fname, letter):
            return font.name
    _say_boxes()
    return ""


def _draws(font: str, letter: str) -> bool:
    face = get_font(font)
    return bool(face.scalable and face.get_char_index(ord(letter)))  # matplotlib fails on fonts made of pictures


@cache
def _say_boxes() -> None:
    warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)  # matplotlib's, of each such letter in each figure
    say("figures: no font of this machine has all letters of the names, some are boxes; install one, as Noto Sans CJK")
