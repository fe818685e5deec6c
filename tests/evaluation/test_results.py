"""What an evaluation writes is what it returns."""

import json

import numpy as np
import pandas as pd
import pytest

from bloodcell.data.samples import Samples
from bloodcell.evaluation.results import recipes_compared, record_test_reads, write_results
from bloodcell.evaluation.results import test_reads as read_times
from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.summary import metrics_of
from bloodcell.runtime.io import write_atomically, write_csv, write_json


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    samples = pd.DataFrame(
        {
            "path": [f"a b/é{i}, 1.png" for i in range(30)],
            "split": ["val"] * 20 + ["test"] * 10,
            "source": "s,1",
            "label": ["EOS", "LYM", "NEU"] * 10,
        }
    )
    return predictions_table(samples, ["EOS", "LYM", "MON", "NEU"], generator.dirichlet([1, 2, 0.1, 3], 30))


def test_everything_is_written(predictions, tmp_path):
    metrics, lines = write_results(tmp_path, predictions, more={"epochs": 3})
    assert metrics == {**metrics_of(predictions), "epochs": 3} == json.loads((tmp_path / "metrics.json").read_text())
    assert [line.partition(" ")[0] for line in lines] == ["val", "test"]
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()) == [
        "classification_report.json",
        "classification_report.txt",
        "failures.csv",
        *(
            f"figures/{name}.png"
            for name in (
                "calibration_test",
                "calibration_val",
                "confusion_test_counts",
                "confusion_test_shares",
                "confusion_val_counts",
                "confusion_val_shares",
                "precision_recall_test",
                "precision_recall_val",
                "roc_test",
                "roc_val",
                "scores_test",
                "scores_val",
            )
        ),
        "groups.csv",  # the source has images of several classes
        "metrics.json",
        "predictions.csv",
    ]


def test_the_written_table_gives_the_same_figures(predictions, tmp_path):
    metrics, _ = write_results(tmp_path, predictions, figures=False)
    assert not (tmp_path / "figures").exists()
    read = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert read["path"].tolist() == predictions["path"].tolist()
    again = metrics_of(read)
    assert [name for name, value in again.items() if value is None] == ["val/f1_MON", "test/f1_MON"]
    numbers = {name: value for name, value in again.items() if value is not None}
    assert numbers == pytest.approx({name: metrics[name] for name in numbers}, rel=1e-12)
    assert b"\r" not in (tmp_path / "predictions.csv").read_bytes()


def test_the_reports_are_of_each_split(predictions, tmp_path):
    metrics, _ = write_results(tmp_path, predictions, figures=False)
    report = json.loads((tmp_path / "classification_report.json").read_text())
    assert list(report) == ["val", "test"]
    for split in report:
        assert report[split]["accuracy"] == pytest.approx(metrics[f"{split}/accuracy"])
        assert report[split]["macro avg"]["f1-score"] == pytest.approx(metrics[f"{split}/macro_f1"])
        assert report[split]["MON"]["f1-score"] == metrics[f"{split}/f1_MON"]
    text = (tmp_path / "classification_report.txt").read_text()
    assert text.startswith("val\n")
    assert "\ntest\n" in text


def test_a_second_evaluation_replaces_the_first(predictions, tmp_path):
    write_results(tmp_path, predictions)
    write_results(tmp_path, predictions[:20])
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 20


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "a.json"
    write_json({"old": 1}, file)
    with pytest.raises(TypeError):
        write_json({"new": object()}, file)

    def half(temporary):
        temporary.write_text("half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, half)
    assert json.loads(file.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_csv_and_json_are_utf_8(tmp_path):
    write_csv(pd.DataFrame({"ü": ["é"]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == "ü\né\n".encode()
    write_json({"a": [1, None, True]}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"a": [1, None, True]}


def test_the_readings_of_a_test_part_are_counted_by_classifier(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    row = {"path": "a.png", "label": "a", "split": "test", "source": "1", "set": ""}
    samples = Samples(pd.DataFrame([row]), tmp_path)
    assert read_times(tmp_path, samples, ["test"]) == []
    (tmp_path / "one" / "checkpoints").mkdir(parents=True)
    (tmp_path / "one" / "run.json").write_text("{}")
    record_test_reads(tmp_path, samples, ["test", "val"], [tmp_path / "one"])
    assert read_times(tmp_path, samples, ["test"]) == []  # once is what it is for
    for run in ("one/checkpoints/best.ckpt", "two"):
        record_test_reads(tmp_path, samples, ["test", "val"], [tmp_path / run])
    (line,) = read_times(tmp_path, samples, ["val", "test"])
    assert line.startswith("the test part was read 3 times so far, this one included, by 2 classifiers;")
    other = Samples(pd.DataFrame([{**row, "label": "b"}]), tmp_path)
    assert read_times(tmp_path, other, ["test"]) == []


def test_a_run_of_a_leaderboard_says_of_how_many(tmp_path):
    assert recipes_compared(tmp_path / "0") == recipes_compared(None) == []
    pd.DataFrame({"job": range(12)}).to_csv(tmp_path / "leaderboard.csv")
    (line,) = recipes_compared(tmp_path / "0")
    assert line.startswith("it is one of 12 trainings that leaderboard.csv compares")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'"time,split\n1', b"a,b\n1,2\n"])
def test_damaged_records_are_said(tmp_path, content):
    samples = Samples(
        pd.DataFrame({"path": ["a.png"], "split": "test", "label": "a", "source": "", "set": ""}), tmp_path
    )
    (tmp_path / "test_reads.csv").write_bytes(content)
    assert read_times(tmp_path, samples, ["test"]) == [
        f"how often the test part was read is not known: {tmp_path / 'test_reads.csv'} is damaged"
    ]
