"""Answers by some classes alone: the same probabilities, scaled, and cells of other classes flagged."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import bloodcell
from bloodcell.data.corrections import Decision
from bloodcell.data.decision_log import append_decisions
from bloodcell.data.synthetic.slides import paint_slides
from bloodcell.evaluation.differentials.count import confusion_of, count
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.inference.adaptation import adapted
from bloodcell.inference.answers import SURE, scaled, sure_of_others
from bloodcell.inference.engine import Pass
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predictor import Predictor
from bloodcell.runtime.config import typed
from bloodcell.runtime.schema.verbs import DifferentialConfig
from tests.conftest import BARE, clear

ALL = ["EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"]
TWO = ["LYMPHOCYTE", "NEUTROPHIL"]
ASKED = "classes=[neutrophil,Lymphocyte]"  # in any spelling and order
PICTURES = [np.full((32, 32, 3), 40 * number, np.uint8) for number in range(1, 5)]


def shares(table, names):
    return table[[f"p_{name}" for name in names]].to_numpy(float)


def rescaled(table):
    """Return the two classes' parts of probabilities of four, by hand."""
    part = shares(table, TWO)
    return part / part.sum(axis=1, keepdims=True)


def fixed(engine, probabilities):
    """Return the engine with a net that gives these probabilities, in the order of `ALL`, whatever it sees."""
    features = np.ones((len(probabilities), 2), np.float32)
    way = Pass("fixed", 1, lambda images: (np.array(probabilities)[: len(images)], features[: len(images)]))
    return dataclasses.replace(engine, passes=lambda _: way, limits=None, temperature=1.0)


@pytest.fixture(scope="module")
def engine(learnt_run):
    (engine,) = load_engines(learnt_run, "cpu")
    assert engine.classes == ALL
    return engine


def test_the_named_classes_share_what_is_left_and_the_likeliest_wins(learnt_run, smears):
    files = [str(file) for file in smears.paths()[::3]]
    whole = bloodcell.load(learnt_run, "cpu", "flips").predict(files)
    some = bloodcell.load(learnt_run, "cpu", "flips", classes=["neutrophil", "lymphocyte"]).predict(files)
    np.testing.assert_allclose(shares(some, TWO), rescaled(whole), rtol=0, atol=1e-12)
    assert list(some["prediction"]) == [TWO[place] for place in rescaled(whole).argmax(axis=1)]
    np.testing.assert_allclose(some["confidence"], rescaled(whole).max(axis=1), rtol=0, atol=1e-12)
    assert (some["prediction"] != whole["prediction"]).any()
    assert [name for name in some if name.startswith("p_")] == [f"p_{name}" for name in TWO]


def test_to_name_all_classes_changes_nothing(learnt_run, smears):
    files = [str(file) for file in smears.paths()[:4]]
    whole, same = (bloodcell.load(learnt_run, "cpu", classes=one).predict(files) for one in (None, ALL[::-1]))
    pd.testing.assert_frame_equal(whole, same)


def test_a_cell_that_is_surely_of_a_class_left_out_is_flagged_and_named(engine):
    sure = [[0.9, 0.06, 0.02, 0.02], [0.1, 0.1, 0.75, 0.05], [0.02, 0.5, 0.0, 0.48], [0.5, 0.1, 0.3, 0.1]]
    table = Predictor([fixed(engine, sure).answering(TWO)]).predict(PICTURES, cells="one")
    assert list(table["other"]) == ["EOSINOPHIL", "MONOCYTE", "", "EOSINOPHIL"]
    assert list(table["unlike"]) == [True, True, False, True]
    assert list(table["prediction"]) == ["LYMPHOCYTE", "LYMPHOCYTE", "LYMPHOCYTE", "LYMPHOCYTE"]
    assert table["confidence"].to_list() == pytest.approx([0.75, 2 / 3, 0.5 / 0.98, 0.5])


def test_adapting_without_labels_keeps_the_choice(engine):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    changed = adapted(engine.answering(TWO), list(noise), 1)
    assert changed.classes == TWO
    assert changed.predict(noise).probabilities.shape == (32, 2)


def test_an_ensemble_is_sure_by_the_mean_of_its_members_whatever_their_order(engine):
    one = fixed(engine, [[0.9, 0.05, 0.04, 0.01], [0.9, 0.05, 0.04, 0.01]])
    two = dataclasses.replace(fixed(engine, [[0.6, 0.3, 0.0, 0.1], [0.1, 0.0, 0.0, 0.9]]), classes=ALL[::-1])
    (group,) = Ensemble([one.answering(TWO), two.answering(TWO)]).predict([PICTURES[:2]], 2)
    assert group.others == ["", "EOSINOPHIL"]  # left out are (0.94 + 0.4) / 2 and (0.94 + 0.9) / 2
    assert group.unlike.tolist() == [False, True]
    np.testing.assert_allclose(group.probabilities, [[5 / 12, 7 / 12]] * 2, rtol=0, atol=1e-12)


def test_probabilities_that_are_all_nothing_become_equal_and_nan_stays():
    found = scaled(np.array([[0.0, 0.0], [0.1, 0.3], [np.nan, 0.2]]))
    np.testing.assert_allclose(found[:2], [[0.5, 0.5], [0.25, 0.75]])
    assert np.isnan(found[2]).all()
    assert sure_of_others(np.array([[SURE, 0.0], [0.3, SURE - 0.31]]), ["a", "b"]) == ["a", ""]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classes=[LYMPHOCYTE,blast]"], ["classes: no class 'blast'", ", ".join(ALL)]),
        (["classes=[LYMPHOCYTE,lymphocyte]"], ["one class leaves no choice"]),
        (["classes=LYMPHOCYTE"], ["give a list of class names"]),
        ([ASKED, "error_rate=0.1"], ["error_rate=0.1: promises are made for all classes"]),
    ],
)
def test_mistakes_are_one_clear_line(command, learnt_run, smears, tmp_path, arguments, words):
    given = [f"checkpoint={learnt_run}", f"images={smears.root}", f"output={tmp_path / 'o.csv'}"]
    clear(*command("predict", *given, *arguments), *words)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("run", ["learnt_run", "quick_run"])  # from images, and from kept features
def test_an_evaluation_answers_by_the_same_rule(run, request, compose, tmp_path, capsys):
    def evaluated(name, *overrides):
        given = (f"checkpoint={request.getfixturevalue(run)}", "device=cpu", "tta=flips", *BARE)
        evaluate(compose(*given, *overrides, verb="evaluate"), tmp_path / name)
        return pd.read_csv(tmp_path / name / "predictions.csv", keep_default_na=False)

    whole = evaluated("whole")
    before = capsys.readouterr().out
    some = evaluated("some", ASKED)
    whole = whole[whole["label"].isin(TWO)]
    assert list(some["path"]) == list(whole["path"])
    np.testing.assert_allclose(shares(some, TWO), rescaled(whole), rtol=0, atol=2e-6)
    said = capsys.readouterr().out
    assert "images of EOSINOPHIL, MONOCYTE not evaluated, as classes=... leaves these classes out" in said
    assert "classes=..." not in before


def test_a_count_knows_no_confusions_leaves_others_out_and_takes_human_labels(learnt_run, compose, tmp_path, capsys):
    paint_slides(tmp_path / "slides", 1, 10, seed=1)

    def counted(name, *overrides):
        own = (f"checkpoint={learnt_run}", f"images={tmp_path / 'slides'}", "device=cpu", "report=false")
        return count(typed(compose(*own, *overrides, verb="differential"), DifferentialConfig), tmp_path / name)

    (slide,) = counted("some", ASKED)
    cells = pd.read_csv(tmp_path / "some" / "cells.csv", keep_default_na=False)
    assert {one.name for one in slide.result.shares} == set(TWO)
    assert not slide.result.corrected
    assert "are of all its classes, and classes=... leaves some out): shares are as predicted" in " ".join(
        capsys.readouterr().out.split()
    )
    first = cells[(cells["left"] > 0) & (cells["top"] > 0)].iloc[0]
    box = tuple(float(first[name]) for name in ("left", "top", "width", "height"))
    append_decisions(tmp_path / "corrections.csv", [Decision(path=first["path"], label="MONOCYTE", who="Ada", box=box)])
    (slide,) = counted("known", ASKED, f"corrections={tmp_path / 'corrections.csv'}")
    assert {one.name: one.count for one in slide.result.shares}["MONOCYTE"] == 1


def test_confusions_are_of_all_classes(engine):
    assert confusion_of([engine], engine.tta)[0] is engine.confusion
    known, why = confusion_of([engine.answering(TWO)], engine.tta)
    assert known is None
    assert "classes=" in why
