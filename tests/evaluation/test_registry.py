"""A metric that is added to the registry is computed and shown everywhere, with its interval."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.exports.export import about_of
from bloodcell.exports.model_card import card
from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.registry import METRICS, Metric, Place, tunable, value_of
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime.io import write_csv, write_json
from bloodcell.training.cross_validation import lines, out_of_fold
from bloodcell.training.leaderboard import leaderboard, show


def cohens_kappa(rows, held):
    """Cohen's kappa of row-normalised confusions, (C, C + 1), of classes with `held` parts, (C,)."""
    shares = held[:, None] * rows[:, :-1] / held.sum()
    chance = (held / held.sum()) @ shares.sum(axis=0)
    return float((shares.trace() - chance) / (1 - chance))


@pytest.fixture
def kappa():
    metric = Metric("kappa_by_source", "kappa by source", Place.EVERYWHERE, score=cohens_kappa, lowest=-1)
    METRICS.append(metric)
    yield metric
    METRICS.remove(metric)


def table(seed=0, split="test"):
    """Return predictions of 40 sources of one to three images, of which about two thirds are right."""
    generator = np.random.default_rng(seed)
    source = np.repeat(np.arange(40), np.arange(40) % 3 + 1)
    label = source % 3
    rows = pd.DataFrame({"path": [f"{i}.png" for i in range(len(label))], "split": split})
    rows = rows.assign(source=[f"s{one}" for one in source], label=np.array(list("abc"))[label])
    return predictions_table(
        rows, list("abc"), 0.6 * generator.dirichlet(np.ones(3), len(label)) + 0.4 * np.eye(3)[label]
    )


def test_its_value_is_scikit_learns(kappa):
    rows = table()
    weight = 1 / rows.groupby("source")["source"].transform("size")
    expected = cohen_kappa_score(rows["label"], rows["prediction"], sample_weight=weight)
    assert value_of(rows, "kappa_by_source") == pytest.approx(expected)
    assert value_of(rows.assign(prediction=rows["label"].map({"a": "b", "b": "c", "c": "a"})), "kappa_by_source") < 0


def test_an_evaluation_and_a_comparison_show_it(kappa, compose, tmp_path, capsys):
    files = []
    for seed in range(2):
        files.append(tmp_path / f"{seed}.csv")
        write_csv(table(seed), files[-1])
    cache = f"cache.root={tmp_path / 'cache'}"
    metrics = evaluate(compose(f"predictions={files[0]}", cache, "figures=false", verb="evaluate"), tmp_path / "one")
    low, value, high = (metrics[f"test/kappa_by_source{end}"] for end in ("_low", "", "_high"))
    assert low < value < high
    assert f"kappa by source {100 * value:.1f} %" in capsys.readouterr().out.replace("\n", " ")
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    cell = f'data-name="kappa by source">{100 * value:.1f} %<span class="interval">{100 * low:.0f} to {100 * high:.0f}<'
    assert cell in page
    both = f"predictions=[{files[0]},{files[1]}]"
    found = evaluate(compose(both, "compare=true", cache, verb="evaluate"), tmp_path / "both")
    rows = pd.read_csv(tmp_path / "both" / "comparison.csv").set_index("figure")
    expected = value - found[str(files[1])]["test/kappa_by_source"]
    assert rows.loc["kappa_by_source", "difference"] == pytest.approx(expected)
    assert f"kappa by source {100 * expected:+.1f}" in capsys.readouterr().out.replace("\n", " ")


def test_a_multirun_shows_it(kappa, tmp_path, capsys):
    jobs = []
    for fold in range(2):
        run = tmp_path / str(fold)
        run.mkdir()
        rows = table(split="val")
        write_csv(rows[np.arange(len(rows)) // 20 % 2 == fold], run / "predictions.csv")
        write_json({"status": "finished", "overrides": [f"data.fold={fold}"]}, run / "run.json")
        write_json({"val/accuracy": 0.5, "val/macro_f1": 0.4, "val/kappa_by_source": 0.123}, run / "metrics.json")
        jobs.append(
            {"overrides": f"data.fold={fold}", "fold": str(fold), "folds": "2", "status": "finished", "run": run}
        )
    board = leaderboard(tmp_path)
    assert board["val/kappa_by_source"].tolist() == [0.123, 0.123]
    show(board, tmp_path)
    assert "0.123" in capsys.readouterr().out
    summary = out_of_fold(pd.DataFrame(jobs), tmp_path)
    low, value, high = (summary[f"kappa_by_source{end}"][0] for end in ("_low", "", "_high"))
    assert f"kappa by source {100 * value:.1f} % ({100 * low:.0f} to {100 * high:.0f})" in lines(summary)[0]


def test_a_model_card_shows_it(kappa, another):
    run = another("run")
    metrics = json.loads((run / "metrics.json").read_text())
    more = {"test/kappa_by_source": 0.5, "test/kappa_by_source_low": 0.4, "test/kappa_by_source_high": 0.6}
    write_json(metrics | more, run / "metrics.json")
    checkpoint = run / "checkpoints" / "best.ckpt"
    text = card(about_of(load_classifier(checkpoint), checkpoint), checkpoint, Path("model.onnx"), "well")
    assert "| kappa by source |" in text
    assert "| 50.0 % (40 to 60) |" in text


def test_tuning_accepts_it(kappa):
    assert tunable()["kappa_by_source"] == "maximize"


def test_tuning_accepts_the_metrics_that_conf_names():
    assert tunable() == {
        "accuracy": "maximize",
        "accuracy_by_source": "maximize",
        "macro_recall_by_source": "maximize",
        "macro_f1_by_source": "maximize",
        "macro_f1": "maximize",
        "loss": "minimize",
    }
