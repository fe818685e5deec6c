"""Folds end with a prediction of every image, and know what to say of it."""

import sys

import numpy as np
import pandas as pd
import pytest

from bloodcell import cli
from bloodcell.cross_validation import lines, out_of_fold
from tests.conftest import QUICK, SMALL


def folded(monkeypatch, folder, *arguments):
    shown = [*QUICK, *SMALL, f"outputs={folder.parent}", f"hydra.sweep.dir={folder}", *arguments]
    monkeypatch.setattr(sys, "argv", ["train.py", *shown])
    cli.main("train")


def test_every_training_image_is_predicted_once_by_a_net_that_saw_nothing_of_its_source(monkeypatch, tmp_path, capsys):
    folded(monkeypatch, tmp_path / "cv", "experiment=cross_validation", "data.folds=5", "trainer.max_epochs=1")
    predictions = pd.read_csv(tmp_path / "cv" / "out_of_fold.csv")
    assert len(predictions) == 4 * 6 * 3
    assert predictions["path"].is_unique
    assert predictions.groupby("source")["fold"].nunique().max() == 1
    assert not any("/TEST/" in path for path in predictions["path"])
    for fold in range(5):
        samples = pd.read_csv(tmp_path / "cv" / str(fold) / "samples.csv")
        trained = set(samples[samples["split"] == "train"]["source"])
        assert trained.isdisjoint(predictions[predictions["fold"] == fold]["source"])
    said = capsys.readouterr().out
    assert "out of fold: 72 images" in said
    assert "24 sources" in said


def jobs(tmp_path, folds, status="finished"):
    rows = []
    for fold in folds:
        run = tmp_path / f"run{fold}"
        run.mkdir()
        truth = np.array(["a", "a", "b", "b"])
        guess = np.where(np.arange(4) < 3 - fold, truth, "a")
        table = pd.DataFrame({"path": [f"{fold}{i}" for i in range(4)], "split": "val", "label": truth})
        table = table.assign(source=[f"s{fold}{i // 2}" for i in range(4)], prediction=guess)
        table.assign(p_a=(guess == "a") * 0.8 + 0.1, p_b=(guess == "b") * 0.8 + 0.1).to_csv(
            run / "predictions.csv", index=False
        )
        rows.append(
            {"overrides": f"seed=1 data.fold={fold}", "fold": str(fold), "folds": "2", "status": status, "run": run}
        )
    return pd.DataFrame(rows)


def test_the_table_is_of_all_folds_together(tmp_path):
    summary = out_of_fold(jobs(tmp_path, [0, 1]), tmp_path)
    row = summary.iloc[0]
    predictions = pd.read_csv(tmp_path / "out_of_fold.csv")
    right = predictions["label"] == predictions["prediction"]
    assert row["images"] == 8
    assert row["accuracy"] == pytest.approx(right.mean())
    assert row["accuracy_by_source"] == pytest.approx(right.groupby(predictions["source"]).mean().mean())
    assert row["sources"] == 4
    assert row["accuracy_by_source_low"] < row["accuracy_by_source"] < row["accuracy_by_source_high"]
    assert "4 sources; out_of_fold.csv" in lines(summary)[0]


def test_a_cross_validation_that_lacks_a_fold_has_no_table(tmp_path):
    assert out_of_fold(jobs(tmp_path, [1]), tmp_path).empty
    assert not (tmp_path / "out_of_fold.csv").exists()


def test_each_set_that_validates_has_its_figures(tmp_path):
    table = jobs(tmp_path, [0, 1])
    for fold, run in enumerate(table["run"]):
        predictions = pd.read_csv(run / "predictions.csv").assign(set=["one", "one", "two", "two"])
        if fold:
            predictions.loc[predictions["set"] == "two", "source"] = ""
        predictions.to_csv(run / "predictions.csv", index=False)
    summary = out_of_fold(table, tmp_path)
    row = summary.iloc[0]
    assert (row["images"], row["images[one]"], row["images[two]"]) == (8, 4, 4)
    assert row["accuracy[one]"] == row["accuracy_by_source[one]"] == 1
    assert row["accuracy[two]"] == pytest.approx(1 / 4)
    assert row["sources[one]"] == 2
    assert "sources" not in row  # two's are not all known
    said = lines(summary)
    assert [line.partition(":")[0] for line in said] == ["out of fold", "out of fold[one]", "out of fold[two]"]
    assert "2 sources; out_of_fold.csv" in said[1]
    assert "4 images, accuracy 25.0 %; sources unknown" in said[2]
