"""Of many classes, the most confused are shown, and what is shown does not grow with their number."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bloodcell.data.classes import missing_classes
from bloodcell.data.samples import Samples, write_samples
from bloodcell.evaluation.figures import confusion_figure
from bloodcell.evaluation.report import Origin, write_report
from bloodcell.exports.model_card import _data
from bloodcell.metrics import intervals
from bloodcell.metrics.confusions import MOST, confusions, most_confused
from bloodcell.metrics.parts import count_parts
from bloodcell.metrics.predictions import matrix_of, predictions_table
from bloodcell.metrics.reliability import tempered, tempered_table
from bloodcell.models.classifier import confusion_matrix
from bloodcell.runtime.console import named
from bloodcell.runtime.html import render
from bloodcell.training.callbacks.history import History
from bloodcell.training.callbacks.tensorboard import TensorBoardReport

MANY = 1000
NAMES = [f"class_{number:04d}" for number in range(MANY)]


def matrix():
    """10 images of each class are right, but 7 of class 900 are taken for 3, and 2 of class 3 for 500."""
    counts = 10 * np.eye(MANY, dtype=int)
    counts[900, [900, 3]] = 3, 7
    counts[3, [3, 500]] = 8, 2
    return counts


def test_the_pairs_that_are_most_confused_come_first():
    assert most_confused(matrix()) == sorted({3, 500, 900} | set(range(MOST - 2)))


def test_a_class_that_is_confused_with_many_does_not_hide_the_pairs():
    counts = matrix()
    counts[700, :] = 1  # a thousand errors, no two alike
    assert {3, 500, 900} <= set(most_confused(counts))


def test_what_is_left_out_is_a_column_so_that_each_row_is_whole():
    counts = matrix()
    counts[900, 800] = 5
    counts[900, 801] = 4
    counts[np.arange(60, 60 + 2 * MOST, 2), np.arange(61, 61 + 2 * MOST, 2)] = 6
    shown = confusions(counts, NAMES)
    row = shown.labels.index("class_0900")
    assert shown.predicted == [*shown.labels, f"{MANY - MOST} others"]
    assert shown.counts[row, [shown.predicted.index("class_0003"), -1]].tolist() == [7, 9]
    assert (
        shown.counts.sum(axis=1).tolist() == counts[[NAMES.index(name) for name in shown.labels]].sum(axis=1).tolist()
    )
    np.testing.assert_allclose(shown.shares.sum(axis=1), 1)


def test_up_to_most_classes_are_shown_whole():
    counts = np.arange(MOST**2).reshape(MOST, MOST)
    shown = confusions(counts, NAMES[:MOST])
    assert shown.labels == shown.predicted == NAMES[:MOST]
    assert shown.note == ""
    np.testing.assert_array_equal(shown.counts, counts)


def test_the_picture_of_many_classes_says_what_it_leaves_out():
    figure = confusion_figure(matrix(), NAMES, "test: 10,000 images", normalise=False)
    (axes,) = figure.axes
    assert axes.get_title() == "test: 10,000 images\nthe 30 most confused of 1,000 classes"
    assert len(axes.texts) == MOST * (MOST + 1)
    assert max(figure.get_size_inches()) < 25
    labels = [label.get_text() for label in axes.get_yticklabels()]
    cell = {text.get_position(): text.get_text() for text in axes.texts}
    assert cell[labels.index("class_0003"), labels.index("class_0900")] == "7"


def test_names_in_a_line():
    assert named(NAMES[:3]) == "class_0000, class_0001, class_0002"
    assert named(NAMES[:30]).count("class_") == 30
    assert named(NAMES).endswith("class_0009, and 990 more")


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_confusion_matrix_of_an_epoch(deterministic):
    labels = torch.arange(3 * MANY) % MANY
    predicted = torch.where(labels == 900, 3, labels)
    logits = torch.nn.functional.one_hot(predicted, MANY).float()
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        with torch.autograd.profiler.profile(profile_memory=True) as profile:
            found = confusion_matrix(logits, labels, MANY)
    finally:
        torch.use_deterministic_algorithms(before)
    assert (found[900, 3], found[900, 900], found[3, 3], found.sum()) == (3, 0, 3, 3 * MANY)
    assert sum(max(event.cpu_memory_usage, 0) for event in profile.function_events) < 100e6  # bytes


def test_macro_f1_of_many_classes_takes_little_memory_and_few_steps():
    """A score for each pair of classes would be a million scores, each with a matrix of its own."""
    rng, count = np.random.default_rng(0), 200
    labels = np.repeat(np.arange(count), 3)
    predicted = np.where(rng.random(3 * count) < 0.6, labels, rng.integers(0, count, 3 * count))
    parts = count_parts([NAMES[k] for k in labels], [NAMES[k] for k in predicted], [f"s{k}" for k in range(3 * count)])
    calls = []

    def score(rows, held):
        calls.append(1)
        return intervals.macro_f1(rows, held)

    tracemalloc.start()
    found = intervals.confusion_estimate(parts, score)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == intervals.confusion_estimate(parts, intervals.macro_f1)
    assert 0 < found.low < found.value < found.high < 1
    assert len(calls) <= 1 + 2 * count + len(labels)
    assert peak < 20e6  # bytes


def predictions():
    rng, label = np.random.default_rng(0), np.repeat(np.arange(MANY), 2)
    chances = rng.dirichlet(np.full(MANY, 0.01), len(label))
    chances = 0.5 * chances + 0.5 * np.eye(MANY)[np.where(label == 900, 3, label)]
    rows = pd.DataFrame(
        {"path": [f"{k}.png" for k in range(len(label))], "split": "test", "label": np.array(NAMES)[label]}
    )
    return predictions_table(rows.assign(source=rows["path"]), NAMES, chances)


@pytest.mark.slow
def test_the_report_of_many_classes_can_be_read(tmp_path):
    write_report(predictions(), tmp_path / "report.html", Origin("x"))
    text = (tmp_path / "report.html").read_text()
    assert len(text) < 1e6
    assert "The 30 most confused of 1,000 classes." in text
    assert text.count('<figure data-class="class_0900">') == 3
    assert text.count("<figure data-class=") == 3 * MOST
    assert "class_0009, and 9" in text  # the verdict names ten of nearly a thousand
    assert max(len(line) for line in text.splitlines()) < 10_000


class Kept:
    """A logger that keeps what it is given."""

    def log_metrics(self, values, step):
        self.names = sorted(values)


@pytest.mark.parametrize("classes", [NAMES[:2], NAMES])
def test_loggers_get_no_chart_for_each_of_many_classes_and_the_file_has_all(tmp_path, classes):
    logger = Kept()
    metrics = {"val/loss": 1.0, "val/accuracy": 0.5, **{f"val/f1_{name}": 0.5 for name in classes}}
    trainer = SimpleNamespace(
        callback_metrics=metrics, current_epoch=0, is_global_zero=True, loggers=[logger], optimizers=[], max_epochs=1
    )
    history = History(tmp_path / "history.csv", lambda line: None)
    history.on_train_epoch_end(trainer, SimpleNamespace(results={"train": {"labels": [0]}}, classes=classes))
    scores = [f"val/f1_{name}" for name in classes]
    assert {"val/loss", "val/accuracy", "images_per_second"} <= set(logger.names)
    assert [name for name in logger.names if "f1_" in name] == (scores if len(classes) <= MOST else [])
    assert set(scores) <= set(pd.read_csv(tmp_path / "history.csv"))


@pytest.mark.parametrize("count", [2, MOST + 1])
def test_curves_of_each_class_in_tensorboard(tmp_path, count):
    logger = TensorBoardLogger(tmp_path)
    trainer = SimpleNamespace(current_epoch=0, loggers=[logger], is_global_zero=True)
    labels = torch.arange(count)
    results = {"confusion": torch.eye(count, dtype=torch.int64), "labels": labels, "logits": torch.eye(count)}
    TensorBoardReport("").on_train_epoch_end(trainer, SimpleNamespace(results={"val": results}, classes=NAMES[:count]))
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    curves = [tag for tag in events.Tags()["tensors"] if tag.startswith("validation/")]
    assert len(curves) == (count if count <= MOST else 0)
    assert events.Tags()["images"] == ["validation confusion matrix"]


def test_the_first_lines_of_a_training_name_few_of_many_classes():
    table = pd.DataFrame({"path": NAMES, "split": ["train"] * 999 + ["val"], "label": NAMES, "source": "", "set": ""})
    (line,) = [line for line in missing_classes(table, NAMES) if "val" in line]
    assert "class_0009, and 989 more; " in line


def test_probabilities_of_many_classes_at_a_temperature_are_one_table():
    """Pandas warns of a table in pieces, and is slow with it."""
    table = tempered_table(predictions(), 2.0)
    assert table.assign(more=1)["more"].sum() == 2 * MANY
    np.testing.assert_allclose(matrix_of(table), tempered(matrix_of(predictions()), 2.0))


def test_the_page_names_few_of_many_classes():
    values = {"header": "", "most": 1e6, "least": "80 %", "lines": [], "sureness": "", "knows_limits": False}
    values |= {"localises": False, "no_map": "", "most_classes": MOST, "provisional": False}
    values |= {"cell_header": "", "colours": [], "reasons": {}, "cells": "one"}
    assert "each: class_0000, " in (many := render("bloodcell.app", "app.html", classes=NAMES, **values))
    assert "class_0009, and 990 more." in many
    assert "each: class_0000 or class_0001." in render("bloodcell.app", "app.html", classes=NAMES[:2], **values)


def test_the_card_sums_the_classes_that_it_leaves_out(tmp_path):
    names = [name for name in NAMES for _ in range(2)]
    table = pd.DataFrame({"path": [f"{k}.png" for k in range(2 * MANY)], "split": ["train", "val"] * MANY})
    write_samples(Samples(table.assign(label=names, source="", set=""), tmp_path), tmp_path / "samples.csv")
    data = _data(tmp_path)
    assert data["others"] == [MANY - MOST] * 2
    assert data["counts"][0] == ("class_0000", [1, 1])
