"""Evaluation ends with a page unless told not to, training and cross-validation where it is asked for."""

import json
import re
import sys

import numpy as np
import pandas as pd
from PIL import Image

from bloodcell import cli
from bloodcell.evaluating import evaluate
from bloodcell.reporting import PICTURES, report_folds
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


def test_a_cross_validation_ends_with_a_page_of_all_its_folds(monkeypatch, tmp_path):
    chosen = ["data.fold=0,1", "data.folds=2", "trainer.max_epochs=1", "report=true", "evaluate.figures=false"]
    folder = tmp_path / "cv"
    shown = [*QUICK, *SMALL, *chosen, f"outputs={tmp_path}", f"hydra.sweep.dir={folder}"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *shown])
    cli.main("train")
    predictions = pd.read_csv(folder / "out_of_fold.csv")
    right = (predictions["label"] == predictions["prediction"]).mean()
    page = page_of(folder)
    assert f"Right on {100 * right:.1f} % of {len(predictions)} validation images" in page
    assert "nor any other image of its source" in page
    assert "cross-fitted" in page
    assert 'id="labels"' in page
    assert len(page_of(folder / "0")) > 1000


def folds(tmp_path, source, changed):
    """Write out_of_fold.csv of sixty sources, of which one is labelled `changed`, and its pictures."""
    label = np.where(np.arange(120) % 4 < 2, "a", "b")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "0.png")
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(120)], "split": "val", "source": source, "label": label})
    p_a = np.where(label == "a", 0.97, 0.03)
    table = table.assign(prediction=label, p_a=p_a, p_b=1 - p_a, fold=np.arange(120) // 2 % 2)
    table.loc[:1, "label"] = changed
    table.to_csv(tmp_path / "out_of_fold.csv", index=False)
    return pd.DataFrame([{"choices": "seed=0", "predictions": "out_of_fold.csv", "members": 1}])


def test_labels_that_no_fold_bears_out_are_shown_with_their_pictures(tmp_path):
    summary = folds(tmp_path, [f"s{i // 2}" for i in range(120)], "b")
    report_folds(summary, tmp_path, tmp_path)
    suspects = page_of(tmp_path).partition('id="suspects"')[2]
    assert suspects.partition("</table>")[0].count('<th scope="row">') == 1
    assert '<th scope="row">s0</th><td data-name="label">b</td><td data-name="rather">a</td>' in suspects
    assert 'alt="Picture of b of the source s0, called a"' in suspects


def test_no_label_is_suspected_where_folds_share_sources(tmp_path):
    summary = folds(tmp_path, [f"s{i // 4}" for i in range(120)], "b")
    report_folds(summary, tmp_path, tmp_path)
    page = page_of(tmp_path)
    assert 'id="labels"' not in page
    assert "nor any other image of its source" not in page
    assert "Validation images: 120 of 120 are of 30 sources that are in training" in page


def test_several_cross_validations_and_their_mean_have_a_page_each(tmp_path):
    row = folds(tmp_path, [f"s{i // 2}" for i in range(120)], "b").iloc[0].to_dict()
    table = pd.read_csv(tmp_path / "out_of_fold.csv")
    names = ["out_of_fold_0.csv", "out_of_fold_1.csv", "out_of_fold_mean.csv"]
    for name in names:
        table.drop(columns="fold" if "mean" in name else []).to_csv(tmp_path / name, index=False)
    summary = pd.DataFrame([{**row, "predictions": name, "members": 2 if "mean" in name else 1} for name in names])
    report_folds(summary, tmp_path, tmp_path)
    assert {file.name for file in tmp_path.glob("*.html")} == {f"report_{one}.html" for one in (0, 1, "mean")}
