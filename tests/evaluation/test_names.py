"""Classes, sources and files may have any name: figures, pages and tables show it as text, and nothing runs."""

from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.runtime.io import write_csv

CLASSES = ["<script>alert(1)</script>", '"onload="alert(1)', "$\\frac{$", "=1+2", "[/bold]", "{{ 7 * 7 }}", "</title>"]


class Elements(HTMLParser):
    """Collects the elements, their attributes and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def judged(tmp_path_factory, compose):
    """Judge predictions of odd names, half of them wrong, and return file and folder of the run."""
    root, rows = tmp_path_factory.mktemp("names"), []
    for number, label in enumerate(CLASSES * 2):
        path = f"<img src=x onerror=alert({number})>.png"
        Image.new("RGB", (24, 16), (10 * number, 0, 99)).save(root / path)
        right = {f"p_{name}": 0.9 if name == label else 0.1 / 6 for name in CLASSES}
        wrong = {f"p_{name}": 0.4 if name in (label, CLASSES[number % 7 - 1]) else 0.2 / 5 for name in CLASSES}
        rows.append({"path": path, "source": f"=cmd|'{number % 3}", "label": label, **(right if number % 2 else wrong)})
    write_csv(pd.DataFrame(rows), root / "mine.csv")
    evaluate(compose(f"predictions={root / 'mine.csv'}", verb="evaluate"), root / "run")
    return root / "mine.csv", root / "run"


def test_a_page_shows_names_as_text(judged):
    page = Elements()
    page.feed((judged[1] / "report.html").read_text(encoding="utf-8"))
    assert not page.tags & {"script", "img onerror", "iframe", "object", "link", "base", "form"}
    assert not [name for name in page.attributes if name.startswith("on")]
    text = " ".join(page.texts)
    for name in CLASSES:
        assert name in text
    assert "49" not in [word.strip() for word in page.texts]  # {{ 7 * 7 }}


def test_figures_take_names_for_names(judged):
    assert {file.name for file in (judged[1] / "figures").iterdir()} >= {"failures_test.png"}


def test_tables_keep_names_as_they_are_formulas_too(judged):
    given, folder = judged
    pd.testing.assert_frame_equal(read_predictions(folder / "predictions.csv"), read_predictions(given))
