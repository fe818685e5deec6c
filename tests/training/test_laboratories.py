"""Leave one laboratory out: the values of the sweep, the images that it uses, and the mean of several laboratories."""

import pandas as pd
import pytest

from bloodcell.training.laboratories import left_out, lines, mean_of


def rows(*values):
    names = ["set", "macro_recall_by_source", "low", "high"]
    return pd.DataFrame(values, columns=names).assign(choices="", images=10, sources=5.0)


def test_the_limits_of_a_mean_are_those_of_independent_estimates():
    # distances 0.3 and 0.4 are 0.5 together, so 0.25 for the mean of two
    assert mean_of(rows(("a", 0.8, 0.5, 0.9), ("b", 0.6, 0.2, 0.6))) == pytest.approx((0.7, 0.45, 0.75))


def test_the_worst_set_is_named():
    *_, last = lines(rows(("a", 0.8, 0.5, 0.9), ("b", 0.6, 0.2, 0.6)))
    assert last == "mean of 2 sets 70.0 % (45 to 75); worst 60.0 %, b"


def test_each_source_counts_one_in_its_class(tmp_path):
    run = tmp_path / "0"
    run.mkdir()
    (run / "config.yaml").write_text("data:\n  leave_out: mine\n")
    # two of three images of source s are right: recall of a is 2/3; that of b is 0
    pd.DataFrame({
        "path": list("12345"), "split": ["test"] * 4 + ["val"], "source": list("sssuv"), "label": list("aaabb"),
        "p_a": [0.9, 0.8, 0.1, 0.7, 0.1], "p_b": [0.1, 0.2, 0.9, 0.3, 0.9], "prediction": list("aabab"),
    }).to_csv(run / "predictions.csv", index=False)  # fmt: skip
    board = pd.DataFrame([{"status": "finished", "overrides": "lr=1 data.leave_out=mine", "run": str(run)},
                          {"status": "failed", "overrides": "lr=1 data.leave_out=b", "run": "x"}])  # fmt: skip
    (row,) = left_out(board, tmp_path).to_dict("records")
    assert row["macro_recall_by_source"] == pytest.approx((2 / 3 + 0) / 2)
    assert (row["choices"], row["set"], row["images"], row["sources"]) == ("lr=1", "mine", 4, 2)
    assert row["low"] < row["macro_recall_by_source"] < row["high"]
    assert pd.read_csv(tmp_path / "leave_one_lab_out.csv")["set"].tolist() == ["mine"]


def test_no_line_without_a_set_that_was_left_out():
    assert list(lines(pd.DataFrame())) == []


@pytest.mark.parametrize(
    ("sets", "values"),
    [("{a: x, b c: y}", "'a','b c'"), ("[d/x.csv,e/y.1]", "'x','y.1'"), ("{it's: x, b: y}", r"'it\'s','b'")],
)
def test_the_experiment_sweeps_over_all_sets(sets, values):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    from bloodcell.runtime.config import register_resolvers

    register_resolvers()
    cfg = OmegaConf.create({"sets": OmegaConf.create(sets) if sets[0] == "{" else ["d/x.csv", "e/y.1"],
                            "all": "${set_names:${sets}}"})  # fmt: skip
    assert cfg.all == values
    (override,) = OverridesParser.create().parse_overrides([f"data.leave_out={cfg.all}"])
    assert len(list(override.sweep_iterator())) == 2
