"""Okabe and Ito's eight colours, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/)."""

from __future__ import annotations

BLUE, ORANGE = "#0072B2", "#D55E00"
#: The last two are too light, and too common, for lines on white.
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442", "#000000")


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a colour as #RRGGBB."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def letters_on(colour: str) -> str:
    """Return black or white, as #RRGGBB: which of them is easier to read on a colour.

    By the contrast of the Web Content Accessibility Guidelines 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    parts = [part / 255 for part in rgb(colour)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    brightness = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (brightness + 0.05) ** 2 > 1.05 * 0.05 else "#FFFFFF"
