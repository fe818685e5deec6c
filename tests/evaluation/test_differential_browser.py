"""The page of a differential count in a real browser: it fits the screen and paper, and is accessible."""

from types import SimpleNamespace

import pandas as pd
import pytest

from bloodcell.evaluation.differentials.count_report import write_report
from bloodcell.evaluation.differentials.slide_counts import count_slides
from tests.app.chromium import CHROMIUM, chromium, violations

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is there")]

CLASSES = [
    "basophil", "eosinophil", "erythroblast", "immature granulocyte",
    "lymphocyte", "monocyte", "neutrophil", "platelet",
]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write the page of three slides of eight classes, without examples, as their pictures are not there."""
    file = tmp_path_factory.mktemp("counted") / "report.html"
    rows = 300
    cells = pd.DataFrame({
        "slide": [f"slide_{number % 3}" for number in range(rows)],
        "path": "a.png",
        "prediction": [CLASSES[number * number % 8] for number in range(rows)],
        **{f"p_{name}": 0.125 for name in CLASSES},
        "confidence": 0.9,
    })  # fmt: skip
    counts = count_slides(cells, dict.fromkeys(cells["slide"].unique(), 10), None)
    preprocessing = SimpleNamespace(white=None)
    engine = SimpleNamespace(classes=CLASSES, known=CLASSES, file="best.ckpt", preprocessing=preprocessing)
    write_report(file, counts, ["a note on this count (12 %)"], cells, file.parent, [engine])
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_accessible_and_all_slides_of_eight_classes_fit_the_screen(report, scheme, width):
    with chromium() as browser:
        tab = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
        tab.goto(report.as_uri())
        assert tab.locator("svg[role]").count() == 3
        for part in ("document.documentElement", "document.querySelector('.overview').parentElement"):
            assert tab.evaluate(f"{part}.scrollWidth - {part}.clientWidth") <= 0
        assert violations(tab) == []
