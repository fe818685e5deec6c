"""Folds end with a prediction of every image, and know what to say of it."""

import sys

import numpy as np
import pandas as pd
import pytest

from bloodcell import cli
from bloodcell.training.cross_validation import lines, out_of_fold
from tests.conftest import QUICK, SMALL


def folded(monkeypatch, folder, *arguments):
    shown = [*QUICK, *SMALL, f"outputs={folder.parent}", f"hydra.sweep.dir={folder}", *arguments]
    monkeypatch.setattr(sys, "argv", ["train.py", *shown])
    cli.main("train")


def test_every_training_image_is_predicted_once_by_a_net_that_saw_nothing_of_its_source(monkeypatch, tmp_path, capsys):
    folded(
        monkeypatch,
        tmp_path / "cv",
        "experiment=cross_validation",
        "data.folds=3",
        "data.fold=0,1,2",
        "trainer.max_epochs=1",
    )
    predictions = pd.read_csv(tmp_path / "cv" / "out_of_fold.csv")
    assert len(predictions) == 4 * 6 * 3
    assert predictions["path"].is_unique
    assert predictions.groupby("source")["fold"].nunique().max() == 1
    assert not any("/TEST/" in path for path in predictions["path"])
    for fold in range(3):
        samples = pd.read_csv(tmp_path / "cv" / str(fold) / "samples.csv")
        trained = set(samples[samples["split"] == "train"]["source"])
        assert trained.isdisjoint(predictions[predictions["fold"] == fold]["source"])
    said = capsys.readouterr().out
    assert "out of fold: 72 images" in said
    assert "24 sources" in said


def jobs(tmp_path, folds, status="finished", seed=1):
    rows = []
    for fold in folds:
        run = tmp_path / f"run{fold}_{seed}"
        run.mkdir()
        truth = np.array(["a", "a", "b", "b"])
        guess = np.where(np.arange(4) < 3 - fold, truth, "a")
        table = pd.DataFrame({"path": [f"{fold}{i}" for i in range(4)], "split": "val", "label": truth})
        table = table.assign(source=[f"s{fold}{i // 2}" for i in range(4)], prediction=guess)
        table.assign(p_a=(guess == "a") * 0.8 + 0.1, p_b=(guess == "b") * 0.8 + 0.1).to_csv(
            run / "predictions.csv", index=False
        )
        rows.append(
            {
                "overrides": f"seed={seed} data.fold={fold}",
                "fold": str(fold),
                "folds": "2",
                "status": status,
                "run": run,
            }
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


def rewrite(table, change):
    """Change the predictions of the runs of a leaderboard: change(predictions, number of the run) -> predictions."""
    for number, run in enumerate(table["run"]):
        predictions = pd.read_csv(run / "predictions.csv", dtype={"path": str})
        change(predictions, number).to_csv(run / "predictions.csv", index=False)
    return table


def test_several_of_the_same_images_end_with_their_mean(tmp_path):
    one = jobs(tmp_path, [0, 1])
    two = rewrite(jobs(tmp_path, [0, 1], seed=2), lambda p, _: p.assign(prediction="a", p_a=0.6, p_b=0.4))
    # the second has its folds cut elsewhere, so its images come in another order
    whole = pd.concat([pd.read_csv(run / "predictions.csv", dtype={"path": str}) for run in two["run"]])
    for part, run in zip((whole.iloc[5::-1], whole.iloc[:5:-1]), two["run"], strict=True):
        part.to_csv(run / "predictions.csv", index=False)
    summary = out_of_fold(pd.concat([one, two]), tmp_path)
    assert list(summary["predictions"]) == ["out_of_fold_0.csv", "out_of_fold_1.csv", "out_of_fold_mean.csv"]
    assert list(summary["members"]) == [1, 1, 2]
    tables = [pd.read_csv(tmp_path / name, dtype={"path": str}).set_index("path") for name in summary["predictions"]]
    assert list(tables[2].index) == list(tables[0].index) != list(tables[1].index)
    expected = (tables[0]["p_a"] + tables[1]["p_a"].loc[tables[0].index]) / 2
    assert tables[2]["p_a"].to_numpy() == pytest.approx(expected.to_numpy())
    assert list(tables[2]["prediction"]) == list(np.where(expected > 0.5, "a", "b"))
    assert list(tables[2]["source"]) == list(tables[0]["source"])
    assert pd.read_csv(tmp_path / "cross_validation.csv")["accuracy"].iloc[2] == summary["accuracy"].iloc[2]


def test_the_mean_and_the_spread_of_several_are_said(tmp_path):
    one = jobs(tmp_path, [0, 1])
    two = rewrite(jobs(tmp_path, [0, 1], seed=2), lambda p, _: p.assign(prediction="a", p_a=0.6, p_b=0.4))
    summary = out_of_fold(pd.concat([one, two]), tmp_path)
    said = [line for line in lines(summary) if "may be wrong" not in line]
    assert len(said) == 4
    assert said[2].startswith("out of fold, mean of 2: 8 images")
    assert said[2].endswith("4 sources; out_of_fold_mean.csv")
    # by source: 1, 1/2, 1, 0 of the one, 1, 0, 1, 0 of the other
    assert said[3] == (
        "2 cross-validations, each on its own, on average: by source 56.2 % (standard deviation 8.8), "
        "macro recall by source 56.2 % (standard deviation 8.8)"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda p, number: p.iloc[: 4 - number],
        lambda p, number: p.assign(path="x" + p["path"]),
        lambda p, number: p.assign(label="a"),
        lambda p, number: p.assign(source="other" + p["source"]),
        lambda p, number: p.assign(p_c=0.0),
    ],
    ids=["fewer", "other images", "other labels", "other sources", "other classes"],
)
def test_of_different_images_there_is_no_mean(tmp_path, change):
    one, two = jobs(tmp_path, [0, 1]), rewrite(jobs(tmp_path, [0, 1], seed=2), change)
    summary = out_of_fold(pd.concat([one, two]), tmp_path)
    assert list(summary["predictions"]) == ["out_of_fold_0.csv", "out_of_fold_1.csv"]
    assert not (tmp_path / "out_of_fold_mean.csv").exists()
    assert not any("mean of" in line or "on average" in line for line in lines(summary))


def suspicious(tmp_path, folds=(0, 1), seed=1):
    """Return a leaderboard of runs whose validation parts hold 8 sources each, one of them labelled wrong."""
    table = jobs(tmp_path, folds, seed=seed)
    for fold, run in enumerate(table["run"]):
        truth = np.repeat(["a", "b"], 8)
        shown = truth.copy()
        shown[:2] = "b"  # source 0 of each fold
        p = np.where(truth == "a", 0.97, 0.03)
        rows = pd.DataFrame({"path": [f"{fold}_{i}" for i in range(16)], "split": "val", "label": shown})
        rows = rows.assign(source=[f"s{fold}_{i // 2}" for i in range(16)], prediction=truth, p_a=p, p_b=1 - p)
        rows.to_csv(run / "predictions.csv", index=False)
    return table


def test_labels_that_all_folds_contradict_are_written_and_said(tmp_path):
    summary = out_of_fold(suspicious(tmp_path), tmp_path)
    suspects = pd.read_csv(tmp_path / "suspected_labels.csv")
    assert sorted(suspects["source"]) == ["s0_0", "s1_0"]
    assert set(suspects["label"]) == {"b"}
    assert set(suspects["suggested"]) == {"a"}
    assert list(suspects["images"]) == [2, 2]
    assert summary["suspects"][0] == 2
    assert lines(summary)[-1] == "2 labels may be wrong: suspected_labels.csv"


def test_several_have_their_suspects_and_those_of_the_mean_are_said(tmp_path):
    summary = out_of_fold(pd.concat([suspicious(tmp_path), suspicious(tmp_path, seed=2)]), tmp_path)
    said = [line for line in lines(summary) if "wrong" in line]
    assert said == ["2 labels may be wrong: suspected_labels_mean.csv"]
    assert all((tmp_path / f"suspected_labels{ending}.csv").is_file() for ending in ("_0", "_1", "_mean"))


@pytest.mark.parametrize(
    "change",
    [lambda p, _: p.assign(source=""), lambda p, _: p.assign(source=[f"s{i}" for i in range(16)])],
    ids=["unknown sources", "sources in two folds"],
)
def test_no_label_is_suspected_where_a_net_may_have_seen_its_source(tmp_path, change):
    summary = out_of_fold(rewrite(suspicious(tmp_path), change), tmp_path)
    assert not list(tmp_path.glob("suspected_labels*"))
    assert summary["suspects"].isna().all()
    assert not any("wrong" in line for line in lines(summary))


def test_where_no_label_is_suspected_none_is_said(tmp_path):
    sound = rewrite(suspicious(tmp_path), lambda p, _: p.assign(label=p["prediction"]))
    summary = out_of_fold(sound, tmp_path)
    assert pd.read_csv(tmp_path / "suspected_labels.csv").empty
    assert not any("wrong" in line for line in lines(summary))
