"""Evaluation ends with a page unless told not to, training where it is asked for."""

import json
import re

import pandas as pd

from bloodcell.evaluating import evaluate
from bloodcell.reporting import PICTURES
from bloodcell.training import train
from tests.conftest import QUICK, SMALL


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


def test_evaluation_writes_a_page_with_the_figures_and_pictures_of_where_the_net_looked(quick_run, compose, tmp_path):
    metrics = evaluate(compose(f"checkpoint={quick_run}", "device=cpu", verb="evaluate"), tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert f"Right on {100 * metrics['test/accuracy']:.1f} % of {metrics['test/images']} test images" in page
    failures = pd.read_csv(tmp_path / "out" / "failures.csv", keep_default_na=False)
    shown = re.findall(
        r'<img alt="Picture of \w+ of the source ([^,]+), called \w+" src="data:image/jpeg;base64,', page
    )
    assert len(shown) == min(PICTURES, failures.loc[failures["split"] == "test", "source"].nunique())
    assert set(shown) <= set(failures["source"])
    assert "none of them in training" in page


def test_no_page_where_none_is_wanted(quick_run, compose, tmp_path):
    evaluate(compose(f"checkpoint={quick_run}", "device=cpu", "report=false", verb="evaluate"), tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    assert not (quick_run / "report.html").exists()


def test_several_members_are_named(quick_run, another, compose, tmp_path):
    chosen = f"checkpoint=[{quick_run},{another('copy')}]"
    evaluate(compose(chosen, "device=cpu", "tta=flips", verb="evaluate"), tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert "the mean of 2 classifiers" in page
    assert "tta=flips" in page


def test_predictions_without_their_images_have_a_page_without_pictures(quick_run, compose, tmp_path):
    own = [f"predictions={quick_run / 'predictions.csv'}", f"cache.root={tmp_path / 'cache'}"]
    evaluate(compose(*own, verb="evaluate"), tmp_path / "out")
    assert "<img " not in page_of(tmp_path / "out")


def test_training_ends_with_a_page_where_it_is_asked_for(compose, tmp_path):
    train(compose(*QUICK, *SMALL, "report=true", "evaluate.figures=false", f"outputs={tmp_path}"), tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert "How it was trained" in page
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert f"Right on {100 * metrics['test/accuracy']:.1f} %" in page
