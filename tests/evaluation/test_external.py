"""A file of predictions is judged as the checkpoint that made it."""

import json
import shutil

import pandas as pd
import pytest

from bloodcell.data.samples import read_samples
from bloodcell.evaluation.evaluate import evaluate
from bloodcell.runtime.errors import BloodcellError


@pytest.fixture
def judged(compose, tmp_path, capsys):
    """Judge a file: judged(file, "splits=[val]", name="out") -> (folder, lines that were said)."""

    def run(file, *extra, name="out"):
        own = [f"predictions={file}", f"cache.root={tmp_path / 'cache'}", *extra]
        evaluate(compose(*own, verb="evaluate"), tmp_path / name)
        return tmp_path / name, capsys.readouterr().out.replace("\n", " ")

    return run


def files_in(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_runs_own_predictions_have_its_checkpoints_figures(quick_run, judged, compose, tmp_path, capsys):
    root = read_samples(quick_run / "samples.csv").root
    own = [f"checkpoint={quick_run}", "device=cpu", f"cache.root={tmp_path / 'cache'}", f"data.root={root}"]
    metrics = evaluate(compose(*own, verb="evaluate"), tmp_path / "by_checkpoint")
    said = capsys.readouterr().out.replace("\n", " ")
    shutil.copy(tmp_path / "by_checkpoint" / "predictions.csv", tmp_path / "theirs.csv")
    folder, lines = judged(tmp_path / "theirs.csv", f"data.root={root}")
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert files_in(folder) == files_in(tmp_path / "by_checkpoint")
    assert "figures/failures_test.png" in files_in(folder)
    for name in ("predictions.csv", "failures.csv", "classification_report.txt", "classification_report.json"):
        assert (folder / name).read_bytes() == (tmp_path / "by_checkpoint" / name).read_bytes()
    assert "; optimistic: it also chose the epoch" in said  # which a table outside of the run does not know
    said = said.replace("; optimistic: it also chose the epoch", "")
    figures = [text[text.index("val accuracy") : text.index("look at: ")] for text in (lines, said)]
    assert figures[0] == figures[1]  # before them, a slow machine says what it does
    record = json.loads((folder / "evaluation.json").read_text())
    assert record["predictions"] == str(tmp_path / "theirs.csv")
    reads = pd.read_csv(tmp_path / "cache" / "test_reads.csv")
    assert reads["digest"].nunique() == 1
    assert reads["by"].tolist()[1:] == [str(tmp_path / "theirs.csv")]


def test_without_the_images_failures_have_no_pictures(quick_run, judged, tmp_path):
    shutil.copy(quick_run / "predictions.csv", tmp_path / "theirs.csv")
    folder, lines = judged(tmp_path / "theirs.csv")
    count = len(pd.read_csv(folder / "predictions.csv"))
    assert f"no pictures of the failures: {count} of {count} images are not in" in lines
    assert len(pd.read_csv(folder / "failures.csv")) > 0
    assert not [name for name in files_in(folder) if "figures/failures" in name]
    assert "figures/confusion_test_counts.png" in files_in(folder)
    _, lines = judged(tmp_path / "theirs.csv", "figures=false", name="plain")
    assert "no pictures" not in lines


def test_an_image_that_cannot_be_read_is_named(judged, tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    (tmp_path / "theirs.csv").write_text("path,label,p_a,p_b\nx.png,a,0.3,0.7\n")
    with pytest.raises(BloodcellError, match=r"x\.png: "):
        judged(tmp_path / "theirs.csv")


def test_a_class_that_never_occurs_and_a_file_beside_the_images(judged, tmp_path, write_image):
    write_image(tmp_path / "x.png")
    write_image(tmp_path / "y.png", seed=1)
    (tmp_path / "theirs.csv").write_text("path,label,p_a,p_b,p_never\nx.png,a,0.3,0.5,0.2\ny.png,b,0,1,0\n")
    folder, lines = judged(tmp_path / "theirs.csv")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["test/accuracy"], metrics["test/f1_never"], metrics["test/images"]) == (0.5, None, 2)
    assert metrics["test/brier"] == pytest.approx((0.49 + 0.25 + 0.04) / 2)
    assert metrics["test/ece"] == pytest.approx(0.5 * 0.5)
    assert "figures/failures_test.png" in files_in(folder)
    assert "note: the test part has no image of never; its macro scores are over the other classes" in lines
    assert "test accuracy 50.0 %, macro F1 0.333; sources unknown" in lines


def test_the_parts_are_those_asked_for_or_all_but_train(judged, tmp_path):
    rows = "train,a,1,0\ntrain,b,1,0\nval,a,1,0\ntest,b,1,0\n"
    (tmp_path / "theirs.csv").write_text(f"split,label,p_a,p_b\n{rows}")
    for extra, expected in (([], ["val", "test"]), (["splits=[train]"], ["train", "train"])):
        folder, _ = judged(tmp_path / "theirs.csv", "figures=false", *extra, name=f"out{len(extra)}")
        assert pd.read_csv(folder / "predictions.csv")["split"].tolist() == expected
    assert len(pd.read_csv(tmp_path / "cache" / "test_reads.csv")) == 1
    with pytest.raises(BloodcellError, match=r"splits=\['test_simple'\] are not in the data"):
        judged(tmp_path / "theirs.csv", "splits=[test_simple]", name="none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["neither is given", "checkpoint=RUN", "predictions=FILE.csv"]),
        (["checkpoint=a", "predictions={file}"], ["both are given", "checkpoint=RUN"]),
        (["predictions={file}", "tta=d4", "adapt=batch_norm"], ["leave out tta=..., adapt=..."]),
        (["predictions={file}", "data=imagefolder", "data.root=x"], ["leave out data=..."]),
        (["predictions={file}", "data.root=/no/such"], ["no such folder: data.root=/no/such"]),
        (["predictions={file}.gone"], ["cannot read predictions=", "No such file"]),
        (["predictions={file}"], ["row 3: its probabilities sum to 1.5, not to 1"]),
    ],
)
def test_the_command_line_refuses(refused, tmp_path, arguments, words):
    (tmp_path / "theirs.csv").write_text("label,p_a,p_b\na,1,0\nb,0.5,1\n")
    shown = [item.format(file=tmp_path / "theirs.csv") for item in arguments]
    error = refused(shown)
    assert all(word in error for word in words)


@pytest.mark.parametrize("form", ["above", "absolute", "link"])
def test_an_image_outside_the_folder_is_not_shown(judged, tmp_path, write_image, form):
    private, theirs = write_image(tmp_path / "private" / "x.png"), tmp_path / "theirs"
    write_image(theirs / "own.png", seed=1)
    (theirs / "link.png").symlink_to(private)
    path = {"above": "../private/x.png", "absolute": str(private), "link": "link.png"}[form]
    rows = [{"path": name, "label": "a", "p_a": 0.1, "p_b": 0.9} for name in (path, "own.png")]
    pd.DataFrame(rows).to_csv(theirs / "theirs.csv", index=False)
    folder, lines = judged(theirs / "theirs.csv")
    assert "no pictures of the failures: 1 of 2 images are not in" in lines
    assert "data:image/jpeg" not in (folder / "report.html").read_text()
    assert not [name for name in files_in(folder) if "figures/failures" in name]


def test_the_same_command_goes_on_in_a_folder_that_a_killed_one_left(judged, compose, tmp_path, monkeypatch):
    rows = [{"path": f"{n}.png", "label": "a", "p_a": 0.1 * n, "p_b": 1 - 0.1 * n} for n in range(10)]
    pd.DataFrame(rows).to_csv(tmp_path / "theirs.csv", index=False)
    whole, _ = judged(tmp_path / "theirs.csv", name="whole")
    with monkeypatch.context() as patch:
        patch.setattr("bloodcell.evaluation.results.write_report", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            judged(tmp_path / "theirs.csv")
    with pytest.raises(BloodcellError, match="is not empty; new results need a new folder") as caught:
        judged(tmp_path / "theirs.csv", "figures=false")
    assert "resume=" not in str(caught.value)
    folder, _ = judged(tmp_path / "theirs.csv")
    assert files_in(folder) == files_in(whole)
    assert (folder / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    with pytest.raises(BloodcellError, match="is not empty"):
        judged(tmp_path / "theirs.csv")
