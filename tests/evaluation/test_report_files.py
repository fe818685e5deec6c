"""Evaluation writes report.html unless told not to, training and cross-validation if asked to."""

import json
import re
import sys

import numpy as np
import pandas as pd
from PIL import Image

from bloodcell import cli
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.evaluation.report import PICTURES
from bloodcell.metrics.summary import epochs_compared
from bloodcell.training.cross_validation import out_of_fold, write_fold_reports
from bloodcell.training.train import train
from tests.conftest import QUICK, SMALL


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


def test_evaluation_writes_a_page_with_the_figures_and_pictures_of_where_the_net_looked(quick_run, compose, tmp_path):
    metrics = evaluate(compose(f"checkpoint={quick_run}", "device=cpu", verb="evaluate"), tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert f"Right on {100 * metrics['test/accuracy']:.1f} % of {metrics['test/images']} test images" in page
    failures = pd.read_csv(tmp_path / "out" / "failures.csv", keep_default_na=False)
    shown = re.findall(
        r'"wrong"><img alt="Picture of \w+ of the source ([^,]+), predicted [^>]+ src="data:image/jpeg;base64,', page
    )
    assert len(shown) == min(PICTURES, failures.loc[failures["split"] == "test", "source"].nunique())
    assert set(shown) <= set(failures["source"])
    assert "none of them in training" in page
    assert "<h1>What this classifier of synthetic smears can be trusted with</h1>" in page


def test_no_page_where_none_is_wanted(quick_run, compose, tmp_path):
    evaluate(compose(f"checkpoint={quick_run}", "device=cpu", "report=false", verb="evaluate"), tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    assert not (quick_run / "report.html").exists()


def test_several_members_are_named(quick_run, another, compose, tmp_path):
    chosen = f"checkpoint=[{quick_run},{another('copy')}]"
    evaluate(compose(chosen, "device=cpu", "tta=flips", verb="evaluate"), tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert "the mean of 2 classifiers" in page
    assert ("also chose the classifier among 4," in page) == ("chosen on the validation images" in page)
    assert "tta=flips" in page


def test_predictions_without_their_images_have_a_page_without_pictures(quick_run, compose, tmp_path):
    own = [f"predictions={quick_run / 'predictions.csv'}", f"cache.root={tmp_path / 'cache'}"]
    evaluate(compose(*own, verb="evaluate"), tmp_path / "out")
    assert "<img " not in page_of(tmp_path / "out")


def test_training_ends_with_a_page_where_it_is_asked_for(compose, tmp_path):
    chosen = ("report=true", "report_title=Ward 7", "evaluate.figures=false", f"outputs={tmp_path}")
    train(compose(*QUICK, *SMALL, *chosen), tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert "<h1>Ward 7</h1>" in page
    assert "How it was trained" in page
    assert "also chose the classifier among 2," in page
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
    assert "nor on any other image of its source" in page
    assert "cross-fitted" in page
    assert 'id="labels"' in page
    assert len(page_of(folder / "0")) > 1000


def test_a_run_tells_among_how_many_epochs_validation_chose(tmp_path):
    for content, expected in (
        ({"epochs": 9, "epochs_compared": 1}, 1),
        ({"epochs": 9}, 9),  # of an older release
        ({"test/accuracy": 0.5}, 1),
    ):
        (tmp_path / "metrics.json").write_text(json.dumps(content))
        assert epochs_compared(tmp_path) == expected
    assert epochs_compared(tmp_path / "none") == epochs_compared(None) == 1


def test_the_choices_of_all_folds_are_counted(tmp_path):
    jobs = folded(tmp_path, copies=2)
    for run, epochs in zip(jobs["run"], (3, 5), strict=True):
        (run / "metrics.json").write_text(json.dumps({"epochs_compared": epochs}))
    summary = out_of_fold(jobs, tmp_path)
    assert summary["compared"].tolist() == [15]
    write_fold_reports(summary, tmp_path, tmp_path)
    assert "also chose the classifier among 15," in page_of(tmp_path)


def folded(tmp_path, copies, seed=0):
    """Return a multirun's table of two folds of 120 images, of sources of so many; those of the first are mislabelled.

    Folds alternate every two images.
    """
    label = np.where(np.arange(120) % 8 < 4, "a", "b")
    p_a = np.where(label == "a", 0.97, 0.03)
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(120)], "label": label, "prediction": label})
    table = table.assign(split="val", source=[f"s{i // copies}" for i in range(120)], p_a=p_a, p_b=1 - p_a)
    table.loc[: copies - 1, "label"] = "b"
    Image.new("RGB", (8, 8), "red").save(tmp_path / "0.png")
    rows = []
    for fold in range(2):
        run = tmp_path / f"{seed}{fold}"
        run.mkdir()
        table[np.arange(120) // 2 % 2 == fold].to_csv(run / "predictions.csv", index=False)
        asked = "report=True " if fold else ""  # the first fold may be reused of a multirun without
        rows.append({"overrides": f"{asked}seed={seed} data.fold={fold}", "fold": str(fold), "run": run})
    return pd.DataFrame(rows).assign(folds="2", status="finished")


def test_labels_that_no_fold_bears_out_are_shown_with_their_pictures(tmp_path):
    write_fold_reports(out_of_fold(folded(tmp_path, copies=2), tmp_path), tmp_path, tmp_path)
    page = page_of(tmp_path)
    suspects = page.partition('id="suspects"')[2]
    assert suspects.partition("</table>")[0].count('<th scope="row">') == 1
    assert '<th scope="row">s0</th><td data-name="label">b</td><td data-name="predicted">a</td>' in suspects
    assert 'alt="Picture of b of the source s0, predicted a"' in suspects
    assert "nor on any other image of its source" in page


def test_no_label_is_suspected_where_folds_share_sources(tmp_path):
    write_fold_reports(out_of_fold(folded(tmp_path, copies=4), tmp_path), tmp_path, tmp_path)
    page = page_of(tmp_path)
    assert 'id="labels"' not in page
    assert "nor on any other image of its source" not in page
    assert "Validation images: 120 of 120 are of 30 sources that are in training" in page


def test_several_cross_validations_and_their_mean_have_a_page_each(tmp_path):
    jobs = pd.concat([folded(tmp_path, copies=4, seed=seed) for seed in range(2)])
    write_fold_reports(out_of_fold(jobs, tmp_path), tmp_path, tmp_path)
    assert {file.name for file in tmp_path.glob("*.html")} == {f"report_{one}.html" for one in (0, 1, "mean")}
    mean = (tmp_path / "report_mean.html").read_text(encoding="utf-8")
    assert "mean of 2" in mean
    assert "are of 30 sources that are in training" in mean


def test_classes_without_an_error_share_a_gallery(learnt_run, compose, tmp_path):
    evaluate(compose(f"checkpoint={learnt_run}", "device=cpu", "figures=false", verb="evaluate"), tmp_path / "out")
    page = page_of(tmp_path / "out")
    failures = pd.read_csv(tmp_path / "out" / "failures.csv", keep_default_na=False)
    wrong = set(failures.loc[failures["split"] == "test", "label"])
    galleries = re.findall(r'(?:<h4>([^<]+)</h4>\s*)?<div class="gallery"(.+?)</div>', page, re.DOTALL)
    heads = {head: set(re.findall(r'alt="Picture of (\w+)', pictures)) for head, pictures in galleries}
    assert {head: {head} for head in wrong}.items() <= heads.items()
    rest = {"EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"} - wrong
    others = [shown for head, shown in heads.items() if head not in wrong]
    assert others == ([rest] if rest else [])
