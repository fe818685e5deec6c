"""Classes, sources and files may have any name: figures, pages and tables show it as text, and nothing runs."""

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.data.samples import Samples, read_samples, write_samples
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.evaluation.report import Origin
from bloodcell.evaluation.results import write_results
from bloodcell.metrics.predictions import classes_of, predictions_table
from bloodcell.metrics.predictions_csv import read_predictions
from bloodcell.metrics.summary import parts_in
from bloodcell.runtime.io import write_csv
from bloodcell.training.cross_validation import out_of_fold
from bloodcell.training.train import train
from tests.conftest import QUICK

CLASSES = ["<script>alert(1)</script>", '"onload="alert(1)', "$\\frac{$", "=1+2", "[/bold]", "{{ 7 * 7 }}", "</title>"]


#: Names that a table might take for a number, for nothing, or for a key of its own.
TEXTS = [
    *("accuracy", "macro avg", "weighted avg", "macro_f1", "label", "prediction", "source", "val/loss"),
    *("NaN", "nan", "NA", "None", "null", "True", "01", "1", "1e3", "inf", "-0", "=1+2", "a,b", 'a"b', "a/b"),
    *("p_x", "f1_x", "class accuracy", "x[test]", "#x", "quality", "fold"),
]


def table_of(classes, split="test"):
    """Return a predictions table with two sources of each class, every third image wrong; sources are named alike."""
    labels = np.repeat(np.arange(len(classes)), 4)
    chances = np.eye(len(classes))[(labels + (np.arange(len(labels)) % 3 == 2)) % len(classes)]
    rows = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "split": split})
    rows = rows.assign(source=[f"{classes[c]} {i // 2}" for i, c in enumerate(labels)], label=np.array(classes)[labels])
    return predictions_table(rows, classes, 0.9 * chances + 0.1 / len(classes))


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


def test_every_table_keeps_a_name_as_text(tmp_path):
    rows = table_of(TEXTS)
    metrics, _ = write_results(tmp_path, rows, figures=False, origin=Origin("x"), members={"a": rows, "b": rows})
    read = read_predictions(tmp_path / "predictions.csv")
    pd.testing.assert_frame_equal(read, rows, check_dtype=False)
    assert classes_of(read) == TEXTS
    assert metrics == json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    right = (rows["label"] == rows["prediction"]).mean()
    values = parts_in(metrics)["test"]
    assert list(parts_in(metrics)) == ["test"]
    assert (values["accuracy"], values["images"], values["sources"]) == (
        pytest.approx(right),
        len(rows),
        2 * len(TEXTS),
    )
    assert [name for name in TEXTS if isinstance(values[f"f1_{name}"], float)] == TEXTS
    report = json.loads((tmp_path / "classification_report.json").read_text(encoding="utf-8"))["test"]
    assert report["accuracy"] == pytest.approx(right)
    assert len(report) == len(TEXTS) + 3
    failures = pd.read_csv(tmp_path / "failures.csv", dtype=str, keep_default_na=False)
    assert set(failures["label"]) | set(failures["mistaken_for"]) == set(TEXTS)
    text = (tmp_path / "classification_report.txt").read_text(encoding="utf-8")
    assert [line[: text.index(" precision")].strip() for line in text.splitlines()[3 : 3 + len(TEXTS)]] == TEXTS
    page = Elements()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert set(TEXTS) <= {text.strip() for text in page.texts}


def test_out_of_fold_tables_keep_names_as_text(tmp_path):
    jobs, rows = [], table_of(TEXTS, "val")
    for fold in range(2):
        run = tmp_path / str(fold)
        run.mkdir()
        write_csv(rows[np.arange(len(rows)) // 2 % 2 == fold], run / "predictions.csv")
        job = {"overrides": f"data.fold={fold}", "fold": str(fold), "folds": "2", "status": "finished", "run": run}
        jobs.append(job)
    summary = out_of_fold(pd.DataFrame(jobs), tmp_path)
    written = read_predictions(tmp_path / "out_of_fold.csv").sort_values("path", ignore_index=True)
    pd.testing.assert_frame_equal(written, rows.sort_values("path", ignore_index=True), check_dtype=False)
    assert summary["accuracy"][0] == pytest.approx((rows["label"] == rows["prediction"]).mean())
    assert summary["images"][0] == len(rows)
    suspects = pd.read_csv(tmp_path / "suspected_labels.csv", dtype=str, keep_default_na=False)
    assert set(suspects["label"]) | set(suspects["suggested"]) <= set(TEXTS)
    assert {f"f1_{name}" for name in TEXTS} < set(pd.read_csv(tmp_path / "cross_validation.csv"))


def test_samples_keep_names_as_text(tmp_path):
    table = pd.DataFrame({"path": TEXTS, "label": TEXTS, "source": TEXTS, "split": "train", "set": ""})
    write_samples(Samples(table, tmp_path), tmp_path / "samples.csv")
    pd.testing.assert_frame_equal(read_samples(tmp_path / "samples.csv").table[table.columns.tolist()], table)


def test_odd_class_names_are_trained_evaluated_and_reported(compose, class_folders, tmp_path):
    classes = sorted(["accuracy", "NaN", "01", "1e3", "p_x"])
    root, run = class_folders(dict.fromkeys(classes, 8)), tmp_path / "run"
    given = [*QUICK, "data=imagefolder", f"data.root={root}", f"outputs={tmp_path}", "logger=[csv,tensorboard]"]
    metrics = train(compose(*given), run)
    assert 0 <= metrics["val/accuracy"] <= 1
    history = pd.read_csv(run / "history.csv")
    assert {f"val/f1_{name}" for name in classes} | {"val/accuracy", "val/loss"} <= set(history)
    assert classes_of(read_predictions(run / "predictions.csv")) == classes
    found = evaluate(compose(f"checkpoint={run}", "figures=false", verb="evaluate"), tmp_path / "again")
    assert {name: found[name] for name in found} == pytest.approx({name: metrics[name] for name in found}, abs=1e-6)
    assert set(read_predictions(tmp_path / "again" / "predictions.csv")["label"]) == set(classes)
    page = Elements()
    page.feed((tmp_path / "again" / "report.html").read_text(encoding="utf-8"))
    assert set(classes) <= {text.strip() for text in page.texts}
