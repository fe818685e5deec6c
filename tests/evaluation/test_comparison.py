"""Systems on the same images: scipy's test, one swap a source, and what is written."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from bloodcell.evaluation.comparison import EXACT, swap_test, write_comparison
from bloodcell.metrics.paired import differences
from bloodcell.runtime.errors import BloodcellError


def table(rows, split="test"):
    """Return a predictions table of (label, prediction, source) rows."""
    found = pd.DataFrame(rows, columns=["label", "prediction", "source"])
    return found.assign(path=[f"{i}.png" for i in range(len(rows))], split=split, p_a=0.5, p_b=0.5)


def compared(tmp_path, *tables, trained_on=frozenset(), epochs=1):
    """Return comparison.csv and the lines of the parts."""
    first, *lines = write_comparison({"ABCD"[i]: one for i, one in enumerate(tables)}, tmp_path, trained_on, epochs)[1]
    assert first == f"the first of {len(tables)} is A"
    return pd.read_csv(tmp_path / "comparison.csv"), lines


#: Ten sources of two images each; A has all right.
A = table([("ab"[s % 2], "ab"[s % 2], f"s{s}") for s in range(10) for _ in range(2)])


def test_all_swaps_of_few_sources_are_scipys():
    shares = np.random.default_rng(0).normal(0.5, 1, 9)
    scipys = permutation_test(
        (shares,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert swap_test(shares) == pytest.approx(scipys.pvalue)


def test_so_many_random_swaps_come_close_to_all_of_them():
    shares = np.random.default_rng(1).normal(0.3, 1, EXACT + 1)
    signs = 1 - 2 * (np.arange(2 ** len(shares))[:, None] >> np.arange(len(shares)) & 1)
    exact = (np.abs(signs @ shares) >= abs(shares.sum()) - 1e-12).mean()
    assert swap_test(shares) == pytest.approx(exact, abs=0.02)
    assert swap_test(shares) == swap_test(shares)


def test_sources_that_tell_nothing_do_not_count():
    assert swap_test(np.array([0.5, 0.25, 0.25, 0.25])) == 2 / 16
    assert swap_test(np.concatenate([[0.5, 0.25, 0.25, 0.25], np.zeros(100)])) == 2 / 16
    assert swap_test(np.zeros(5)) == 1
    assert swap_test(np.ones(100)) == 1 / 10_000


@pytest.mark.parametrize("sources", [12, 40])
def test_equal_systems_are_told_apart_by_chance_alone(sources):
    rng = np.random.default_rng(0)
    found = np.array([swap_test(rng.choice([-1.0, -0.5, 0, 0.5, 1.0], sources)) for _ in range(60)])
    assert (found <= 0.05).mean() <= 0.1
    assert (found <= 0.5).mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(("split", "epochs", "optimistic"), [("val", 15, True), ("val", 1, False), ("test", 15, False)])
def test_a_part_that_chose_the_epochs_is_called_optimistic(tmp_path, split, epochs, optimistic):
    _, (line,) = compared(tmp_path, A.assign(split=split), A.assign(split=split, prediction="a"), epochs=epochs)
    assert line.endswith("; optimistic: it also chose the epoch") == optimistic


def test_copies_of_a_source_prove_nothing_more(tmp_path):
    other = A.assign(prediction=A["prediction"].mask(A["source"] == "s0", "b"))
    one, _ = compared(tmp_path, A, other)
    copies = [pd.concat([t.assign(path=f"{i}" + t["path"]) for i in range(50)], ignore_index=True) for t in (A, other)]
    many, _ = compared(tmp_path, *copies)
    assert list(many["p"]) == list(one["p"]) == [1, 1, 1]


def test_the_table_has_the_paired_differences_and_who_alone_is_right(tmp_path):
    wrong = {"s1": 2, "s3": 2, "s5": 2, "s7": 2, "s9": 1}  # how many of two images; s9 has half of them right
    seen = A.groupby("source").cumcount()
    other = A.assign(prediction=np.where(seen < A["source"].map(wrong).fillna(0), "a", A["prediction"]))
    found, said = compared(tmp_path, A, other)
    expected = differences(A, other)["test"]
    assert list(found["figure"]) == list(expected) == ["accuracy", "accuracy_by_source", "macro_recall_by_source"]
    for row, one in zip(found.itertuples(), expected.values(), strict=True):
        assert (row.difference, row.low, row.high) == pytest.approx((one.value, one.low, one.high))
        assert (row.one, row.other, row.split, row.images, row.sources) == ("A", "B", "test", 20, 10)
        assert (row.only_one, row.only_other) == (5, 0)
        assert row.p == pytest.approx(2 / 32)
    assert said[0].startswith("test gain over B, in points: accuracy +45.0 (")
    assert said[0].endswith(
        "10 sources; right by this alone 5, by the other alone 0; p = 0.0625 by source, 0.0625 macro recall by source"
    )


def test_the_first_is_compared_with_each_of_the_others_in_any_order_of_rows(tmp_path):
    poor = A.assign(prediction="a")
    found, said = compared(tmp_path, A, poor.sample(frac=1, random_state=0), A)
    assert found.groupby("other")["difference"].first().to_dict() == {"B": 0.5, "C": 0}
    assert set(found["one"]) == {"A"}
    assert [line.partition(",")[0] for line in said] == ["test gain over B", "test gain over C"]
    assert found[found["other"] == "C"]["p"].tolist() == [1, 1, 1]
    back, _ = compared(tmp_path, poor, A)
    assert back["difference"].tolist() == [-0.5] * 3
    assert back["p"].tolist() == found["p"].tolist()[:3]
    assert back["only_other"].tolist() == found["only_one"].tolist()[:3]


def test_splits_and_unseen_sources_have_rows_of_their_own(tmp_path):
    both = pd.concat([A.assign(split="val"), A])
    found, said = compared(tmp_path, both, both.assign(prediction="a"), trained_on=frozenset({"s1"}))
    assert list(found["split"].unique()) == ["val", "test", "test_disjoint"]
    assert found.groupby("split")["sources"].first().to_dict() == {"val": 10, "test": 10, "test_disjoint": 9}
    assert len(said) == 3


def test_where_sources_are_unknown_there_is_no_test(tmp_path):
    found, said = compared(tmp_path, A.assign(source=""), A.assign(source="", prediction="a"))
    assert len(found) == 1
    assert found.loc[0, ["figure", "difference", "images"]].tolist() == ["accuracy", 0.5, 20]
    assert found.loc[0, ["low", "high", "p", "sources", "only_one", "only_other"]].isna().all()
    assert said == ["test gain over B, in points: accuracy +50.0; sources unknown, so no honest interval"]


def test_different_images_are_one_line_that_names_both(tmp_path):
    with pytest.raises(BloodcellError, match=r"^A and C: .* are not of the same images and labels") as error:
        compared(tmp_path, A, A, A[:-1])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "comparison.csv").exists()
