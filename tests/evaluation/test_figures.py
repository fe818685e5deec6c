"""Figures: what they show is what was measured."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image, ImageDraw

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.evaluation.curve_figures import calibration_figure, ranking_figure, scores_figure
from bloodcell.evaluation.figures import confusion_figure, curves_figure, failures_figure, save
from bloodcell.metrics.by_class import scores_by_class
from bloodcell.metrics.reliability import reliability
from bloodcell.metrics.roc import bands_of, rankings_of
from bloodcell.runtime import fonts
from bloodcell.runtime.colours import BLUE, ORANGE
from tests.evaluation.grouped import CLASSES, simulated

MATRIX = np.array([[1200, 300], [0, 4]])
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train/loss": [1.0, 0.5, 0.2], "val/loss": [1.1, 0.7, 0.9],
        "train/accuracy": [0.4, 0.8, 0.9], "val/accuracy": [0.3, 0.6, 0.7],
    }
)  # fmt: skip


def texts(figure):
    (axes,) = figure.axes
    return {text.get_position(): text.get_text() for text in axes.texts}


def test_counts_stand_at_row_true_and_column_predicted():
    figure = confusion_figure(MATRIX, ["EOS", "NEU"], "test: 1,504 images", normalise=False)
    assert texts(figure) == {(0, 0): "1,200", (1, 0): "300", (0, 1): "0", (1, 1): "4"}  # (column, row)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"
    assert axes.get_title() == "test: 1,504 images"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["EOS", "NEU"]


def test_shares_are_of_the_true_class():
    figure = confusion_figure(MATRIX, ["EOS", "NEU"], "", normalise=True)
    assert texts(figure) == {(0, 0): "80%", (1, 0): "20%", (0, 1): "0%", (1, 1): "100%"}
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.8, 0.2], [0, 1]])


def test_numbers_can_be_read_on_their_field():
    colours = {t.get_text(): t.get_color() for t in confusion_figure(MATRIX, ["a", "b"], "", True).axes[0].texts}
    assert colours == {"80%": "white", "20%": "black", "0%": "black", "100%": "white"}


def test_a_class_without_images_has_no_shares():
    figure = confusion_figure(np.array([[2, 0], [0, 0]]), ["a", "b"], "", normalise=True)
    assert texts(figure)[1, 1] == "-"


def test_curves_show_both_splits_and_the_epoch_that_was_chosen():
    loss, accuracy = curves_figure(HISTORY, 3).axes
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        train, val, chosen = axes.lines
        for line, split, colour in ((train, "train", BLUE), (val, "val", ORANGE)):
            assert list(line.get_xdata()) == [1, 2, 3]
            assert list(line.get_ydata()) == HISTORY[f"{split}/{metric}"].tolist()
            assert line.get_color() == colour
        assert set(chosen.get_xdata()) == {3}
    legend = [text.get_text() for text in loss.get_legend().get_texts()]
    assert legend == ["training", "validation", "chosen epoch (3)"]
    assert loss.get_ylim()[0] == 0


@pytest.mark.parametrize("columns", [["epoch", "train/loss", "train/accuracy"], list(HISTORY.columns)])
def test_curves_without_validation_or_of_one_epoch(columns, tmp_path):
    save(curves_figure(HISTORY[columns][:1], 1), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1170, 468)


def test_drawing_opens_no_window_and_leaves_no_state(tmp_path):
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    save(confusion_figure(np.eye(8, dtype=int), list("abcdefgh"), "", False), tmp_path / "a.png")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert min(image.size) > 800
        assert image.convert("L").getextrema() == (0, 255)


@pytest.fixture(scope="module")
def rows():
    return simulated(np.random.default_rng(1), 40)


def test_scores_are_drawn_with_their_intervals(rows):
    scores = scores_by_class(rows, list(CLASSES))
    (axes,) = scores_figure(scores, "test").axes
    lines = [line for line in axes.lines if line.get_marker() == "None"]
    for name, found in zip(("recall", "specificity", "precision"), (lines[:4], lines[4:8], lines[8:]), strict=True):
        assert [tuple(line.get_xdata()) for line in found] == [getattr(one, name).limits for one in scores]
    points = {line.get_label(): line for line in axes.lines if line.get_marker() != "None"}
    assert list(points["specificity"].get_xdata()) == [one.specificity.value for one in scores]
    assert list(points["recall (sensitivity)"].get_xdata()) == [one.recall.value for one in scores]


def test_scores_of_unknown_sources_have_no_intervals(rows):
    (axes,) = scores_figure(scores_by_class(rows.assign(source=""), list(CLASSES)), "test").axes
    assert len(axes.lines) == 3
    assert axes.get_xlabel() == ""


def test_calibration_is_drawn_with_its_intervals(rows):
    found = reliability(rows)
    (axes,) = calibration_figure(found, "test").axes
    _, line = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), np.stack([found.confidence, found.accuracy], axis=1))
    ends = [segment[:, 1] for segment in axes.collections[0].get_segments()]
    np.testing.assert_array_equal(ends, np.stack([found.low, found.high], axis=1))
    assert not calibration_figure(reliability(rows.assign(source="")), "").axes[0].collections


def test_curves_are_drawn_of_each_class(rows):
    rankings = rankings_of(rows, list(CLASSES))
    (axes,) = ranking_figure(rankings, "roc", "").axes
    for line, one in zip(axes.lines[1:], rankings, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), one.roc)
        assert line.get_label() == f"{one.name}, AUC {one.auc:.3f}"
    (axes,) = ranking_figure(rankings, "precision_recall", "").axes
    for line, one in zip(axes.lines, rankings, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), one.precision_recall)
    (axes,) = ranking_figure(rankings, "roc", "", [bands_of(rows, one.name) for one in rankings]).axes
    assert len(axes.collections) == len(rankings)
    assert [text.get_text() for text in axes.texts] == ["shaded: 95 % intervals"]


def test_the_failures_show_the_square_that_the_net_saw_and_how_sure_it_was(tmp_path):
    nucleus = Image.new("RGB", (200, 100), (235, 225, 220))
    ImageDraw.Draw(nucleus).ellipse((130, 40, 160, 70), fill=(90, 40, 140))
    nucleus.save(tmp_path / "a.png")
    failures = pd.DataFrame({"label": ["x"], "mistaken_for": ["y"], "images": [3], "right": [1 / 3], "path": ["a.png"]})
    failures = failures.assign(confidence=0.876)
    cell = Preprocessing(32, "cell", 2.0)
    left, top, side = cell.square(np.asarray(nucleus))
    axes = failures_figure(failures, tmp_path, "val", cell).axes[0]
    assert axes.get_title() == "x\nas y, 2 of 3\n88 % sure"
    assert {(*patch.get_xy(), patch.get_width()) for patch in axes.patches} == {(left - 0.5, top - 0.5, side)}
    wide = failures_figure(failures, tmp_path, "val", Preprocessing(32, "cell", 9.0)).axes[0]
    assert {patch.get_bbox().bounds for patch in wide.patches} == {(-0.5, -0.5, 200.0, 100.0)}  # what lies in the image
    for whole in (None, Preprocessing(32)):
        assert not failures_figure(failures, tmp_path, "val", whole).axes[0].patches


def test_a_figure_has_the_formats_that_are_asked_for_and_the_same_bytes_each_time(tmp_path):
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(curves_figure(HISTORY, 3), tmp_path / folder / "a.b.png", list(start))
    for form, first in start.items():
        content = (tmp_path / "one" / f"a.b.{form}").read_bytes()
        assert content.startswith(first)
        assert content == (tmp_path / "two" / f"a.b.{form}").read_bytes()


@pytest.fixture
def letterless():
    """No font has been looked for, and none is known that has the letter 中 but matplotlib's last resort."""
    fonts._further_font.cache_clear()
    fonts._say_boxes.cache_clear()
    known = fontManager.ttflist
    fontManager.ttflist = [font for font in known if font.fname.startswith(matplotlib.get_data_path())]
    yield
    fontManager.ttflist = known
    fonts._further_font.cache_clear()


def test_letters_that_no_font_has_are_said_once(letterless, tmp_path, capsys, recwarn):
    for title in ("中", "中性"):
        save(confusion_figure(MATRIX, ["中性", "NEU"], title, normalise=False), tmp_path / "a.png")
    assert capsys.readouterr().out.count("no font of this machine has all letters") == 1
    assert not recwarn.list


def test_letters_are_taken_from_a_font_that_has_them(letterless, tmp_path, capsys):
    def drawn(name):
        save(confusion_figure(MATRIX, [name, "NEU"], "", normalise=False), tmp_path / "a.png")
        return np.asarray(Image.open(tmp_path / "a.png").convert("L"))

    fontManager.addfont(font_with("中", tmp_path / "han.ttf"))
    figure = confusion_figure(MATRIX, ["$中", "NEU"], "", normalise=False)
    assert figure.axes[0].get_yticklabels()[0].get_fontfamily()[-1] == "Han of the tests"
    assert fonts.font_file("a中") == str(tmp_path / "han.ttf")
    assert "DejaVu" in fonts.font_file("aé")
    assert (drawn("中中") == 0).sum() > (drawn("中") == 0).sum() + 50  # a full square each
    assert not capsys.readouterr().out


def font_with(letter, file):
    """Write a font that has one letter, a black square."""
    pen = TTGlyphPen(None)
    for step, point in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Han of the tests", "styleName": "Regular"})
    font.setupOS2(usWeightClass=400)
    font.setupPost()
    font.save(file)
    return file
