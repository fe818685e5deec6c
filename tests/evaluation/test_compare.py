"""Several checkpoints, or files of predictions, beside each other in place of averaged."""

import json

import pandas as pd
import pytest

from bloodcell.evaluation.evaluate import evaluate
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import BARE
from tests.test_ensemble import shaken


def run(compose, folder, *overrides):
    return evaluate(compose(*overrides, *BARE, verb="evaluate"), folder)


def test_checkpoints_are_compared_and_each_keeps_its_figures(quick_run, another, compose, tmp_path, capsys):
    other = another("other", shaken)
    device = ("device=cpu", f"cache.root={tmp_path / 'cache'}")
    metrics = run(compose, tmp_path / "both", f"checkpoint=[{quick_run},{other}]", "compare=true", *device)
    said = capsys.readouterr().out
    alone = [run(compose, tmp_path / name, f"checkpoint={one}", *device) for name, one in
             (("a", quick_run), ("b", other))]  # fmt: skip
    assert list(metrics.values()) == alone
    assert json.loads((tmp_path / "both" / "metrics.json").read_text()) == metrics
    for number, name in enumerate("ab"):
        written = (tmp_path / "both" / f"predictions_{number}.csv").read_bytes()
        assert written == (tmp_path / name / "predictions.csv").read_bytes()
    assert not (tmp_path / "both" / "predictions.csv").exists()
    found = pd.read_csv(tmp_path / "both" / "comparison.csv")
    for row in found[~found["split"].str.endswith("_disjoint")].itertuples():
        name = f"{row.split}/{row.figure}"
        assert row.difference == pytest.approx(alone[0][name] - alone[1][name], rel=1e-5)  # six digits
    assert set(found["one"]) == {next(iter(metrics))}
    assert f"gain over {list(metrics)[1]}, in points: accuracy" in said.replace("\n", " ")
    assert " ".join(said.split()).count("optimistic: it also chose the epoch") == 1  # val, not test
    record = json.loads((tmp_path / "both" / "evaluation.json").read_text())
    assert (record["compare"], len(record["checkpoint"])) == (True, 2)


def test_files_of_predictions_are_compared(compose, tmp_path):
    (tmp_path / "a.csv").write_text("path,label,source,p_a,p_b\nx,a,1,0.9,0.1\ny,b,2,0.2,0.8\n")
    (tmp_path / "b.csv").write_text("path,label,source,p_b,p_a\ny,b,2,0.3,0.7\nx,a,1,0.1,0.9\n")
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    cache = f"cache.root={tmp_path / 'cache'}"
    metrics = run(compose, tmp_path / "out", f"predictions=[{','.join(files)}]", "compare=true", cache)
    assert [metrics[name]["test/accuracy"] for name in files] == [1, 0.5]
    found = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert found["difference"].tolist() == [0.5] * 3
    assert found["only_one"].tolist() == [1] * 3
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["predictions"] == files
    assert pd.read_csv(tmp_path / "cache" / "test_reads.csv")["by"].tolist() == files


def test_files_of_different_images_are_refused(compose, tmp_path):
    (tmp_path / "a.csv").write_text("path,label,p_a,p_b\nx,a,0.9,0.1\n")
    (tmp_path / "b.csv").write_text("path,label,p_a,p_b\nz,a,0.9,0.1\n")
    given = f"predictions=[{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}]"
    with pytest.raises(BloodcellError, match=r"a\.csv and .*b\.csv: .* not of the same images and labels"):
        run(compose, tmp_path / "out", given, "compare=true", f"cache.root={tmp_path / 'cache'}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint=A", "compare=true"], "compare=true needs two or more"),
        (["predictions=[a.csv]", "compare=true"], "compare=true needs two or more"),
        (["predictions=[a.csv,b.csv]"], "add compare=true"),
        (["predictions=[a.csv,a.csv]", "compare=true"], "one is named twice"),
        (["checkpoint=[A,B]", "predictions=[a.csv,b.csv]", "compare=true"], "both are given"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(compose, tmp_path, overrides, message):
    with pytest.raises(BloodcellError, match=message) as error:
        run(compose, tmp_path / "out", *overrides)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_compared_unless_asked(compose):
    assert compose(verb="evaluate").compare is False
