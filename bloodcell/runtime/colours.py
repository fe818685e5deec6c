"""Okabe and Ito's eight colours, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/)."""

from __future__ import annotations

BLUE, ORANGE = "#0072B2", "#D55E00"
#: The last two are too light, and too common, for lines on white.
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442", "#000000")


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a colour as #RRGGBB."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
