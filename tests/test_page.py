"""Pages ask for nothing from elsewhere, escape what they show, and can be read in light, in dark and on paper."""

import io
import itertools
import re
from pathlib import Path

import pytest
from PIL import Image

import bloodcell
from bloodcell.runtime.html import count, embedded, percent, size, write_page

FOLDER = Path(bloodcell.__file__).parent
STYLE = (FOLDER / "runtime" / "templates" / "page.css").read_text()


@pytest.mark.parametrize(("number", "words"), [(12515, "12,515"), (0, "0"), (7.0, "7")])
def test_count(number, words):
    assert count(number) == words


def test_percent_does_not_break():
    assert percent(0.5734) == "57.3\N{NO-BREAK SPACE}%"
    assert percent(0.995, 0) == "100\N{NO-BREAK SPACE}%"


def test_a_picture_says_what_it_is():
    assert embedded(b"\x89PNG\r\n") == "data:image/png;base64,iVBORw0K"
    assert embedded(b"\xff\xd8\xff") == "data:image/jpeg;base64,/9j/"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_says_how_large_it_is(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, kind)
    assert size(buffer.getvalue()) == (30, 20)


def test_text_is_escaped_and_nothing_is_asked_for(tmp_path):
    values = {"counts": [], "leaks": [], "leak_total": 0, "conflicts": [], "conflict_total": 0, "strengths": {}}
    page = tmp_path / "report.html"
    write_page(page, "bloodcell.audits", "report.html", clean=False, verdict=["<b>&"], root="a<b", **values)
    text = page.read_text()
    assert "&lt;b&gt;&amp;" in text
    assert "a&lt;b" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)


def colours(scheme):
    """Return name -> (r, g, b), 0 to 1, of the style's variables."""
    light, dark = re.findall(r":root \{([^}]*)\}", STYLE)
    found = dict(re.findall(r"--(\w+): (#\w+);", light))
    if scheme == "dark":
        found |= dict(re.findall(r"--(\w+): (#\w+);", dark))
    return {name: _rgb(value[1:]) for name, value in found.items()}


def _rgb(digits):
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    return tuple(int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))


def contrast(one, other):
    """Contrast of two colours by WCAG 2, 1 to 21."""

    def luminance(colour):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_in_both_schemes(scheme):
    of = colours(scheme)
    for text, ground in itertools.product(("ink", "soft", "one"), ("paper", "panel")):
        assert contrast(of[text], of[ground]) >= 4.5
    assert min(contrast(of[line], of["paper"]) for line in ("one", "two", "accent")) >= 3
    charts = (FOLDER / "evaluation" / "templates" / "charts.css").read_text()
    strongest = int(re.search(r"var\(--share\) \* (\d+)%", charts)[1]) / 100
    for share in (0.0, 0.5, 1.0):
        pairs = zip(of["shade"], of["paper"], strict=True)
        mixed = [strongest * share * shade + (1 - strongest * share) * paper for shade, paper in pairs]
        assert contrast(of["ink"], mixed) >= 4.5
