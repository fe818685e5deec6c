"""Splits: shares, strata, and no source in two parts."""

from pathlib import Path

import pytest

from bloodcell.data.samples import Samples, samples_table
from bloodcell.data.splits import assign_splits
from bloodcell.runtime.errors import BloodcellError
from tests.conftest import data_config

ROOT = Path("/r")


def made(counts, per_source=None, split=""):
    """Return Samples: made({"a": 4}, per_source=2) has 4 images of class a from 2 sources."""
    rows = [
        (ROOT / split / f"{name}{i}.png", name, split, f"{name}{i // per_source}" if per_source else "")
        for name, count in counts.items()
        for i in range(count)
    ]
    return samples_table(rows, ROOT)


def joined(*parts):
    import pandas as pd

    return Samples(pd.concat([part.table for part in parts], ignore_index=True), ROOT)


def split_of(samples, split="auto", **values):
    return assign_splits(samples, data_config(split=split, **values))


def counts_of(samples, *columns):
    return samples.table.groupby(list(columns)).size().to_dict()


def test_without_splits_it_is_70_15_15_of_each_class():
    assert counts_of(split_of(made({"a": 100, "b": 40}), "random"), "split", "label") == {
        ("train", "a"): 70, ("val", "a"): 15, ("test", "a"): 15,
        ("train", "b"): 28, ("val", "b"): 6, ("test", "b"): 6,
    }  # fmt: skip


def test_the_notebooks_split_is_80_20_of_train_and_leaves_the_test_part():
    samples = joined(made({"a": 100, "b": 50}, split="train"), made({"a": 7, "b": 5}, split="test"))
    split = split_of(samples, "random", val_fraction=0.2)
    assert counts_of(split, "split", "label") == {
        ("train", "a"): 80, ("val", "a"): 20, ("train", "b"): 40, ("val", "b"): 10, ("test", "a"): 7, ("test", "b"): 5,
    }  # fmt: skip
    assert split.table.loc[split.table["split"] == "test", "path"].str.startswith("test/").all()


def test_given_parts_stay():
    samples = joined(*(made({"a": 9, "b": 9}, split=split) for split in ("train", "val", "test", "test_simple")))
    assert split_of(samples).table.equals(samples.table)


def test_a_fraction_of_zero_draws_nothing():
    assert set(split_of(made({"a": 9, "b": 9}), val_fraction=0, test_fraction=0).table["split"]) == {"train"}


def test_the_seed_decides():
    samples = made({"a": 50, "b": 50})
    first, again, other = (split_of(samples, seed=seed).table["split"].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert set(samples.table["split"]) == {""}  # the argument is unchanged


def test_splitting_keeps_the_order_of_rows():
    samples = made({"a": 10, "b": 10})
    assert split_of(samples, seed=3).table["path"].tolist() == samples.table["path"].tolist()


def test_small_classes_have_an_image_in_each_part_and_a_single_image_trains():
    split = split_of(made({"a": 100, "one": 1, "two": 2, "three": 3}), "random")
    counts = counts_of(split, "label", "split")
    assert {key: count for key, count in counts.items() if key[0] != "a"} == {
        ("one", "train"): 1,
        ("two", "train"): 1, ("two", "test"): 1,
        ("three", "train"): 1, ("three", "val"): 1, ("three", "test"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("per_source", [None, 3])
def test_folds_partition_what_is_not_test(per_source):
    samples = made({"a": 60, "b": 33}, per_source)
    seen, test = [], None
    for fold in range(5):
        table = split_of(samples, folds=5, fold=fold, seed=4).table
        paths = {split: set(table.loc[table["split"] == split, "path"]) for split in ("train", "val", "test")}
        assert sum(map(len, paths.values())) == 93
        assert test in (None, paths["test"])  # the same test part for every fold
        test = paths["test"]
        seen += paths["val"]
    assert len(seen) == len(set(seen))
    assert set(seen) | test == set(samples.table["path"])


def test_random_folds_have_equal_sizes_in_total_and_by_class():
    samples = joined(made({"a": 12, "b": 7, "c": 6}), made({"a": 1, "b": 1}, split="test"))
    sizes, by_class = [], []
    for fold in range(5):
        counts = counts_of(split_of(samples, "random", folds=5, fold=fold), "split", "label")
        by_class.append(tuple(counts.get(("val", name), 0) for name in "abc"))
        sizes.append(sum(by_class[-1]))
    assert sizes == [5] * 5
    assert all(2 <= a <= 3 and 1 <= b <= 2 and 1 <= c <= 2 for a, b, c in by_class)


def test_folds_include_a_given_validation_part():
    samples = joined(*(made({"a": 10, "b": 10}, split=split) for split in ("train", "val", "test")))
    split = split_of(samples, folds=4, fold=0)
    assert counts_of(split, "split") == {"train": 30, "val": 10, "test": 20}


@pytest.mark.parametrize("seed", range(5))
def test_grouped_has_no_source_in_two_parts(seed):
    samples = made({"a": 200, "b": 90, "c": 60}, per_source=10)
    split = split_of(samples, seed=seed)
    assert (split.table.groupby("source")["split"].nunique() == 1).all()
    counts = counts_of(split, "split")
    assert counts["train"] >= 210
    assert 30 <= counts["val"] <= 80
    assert 30 <= counts["test"] <= 80
    assert all(set(part["label"]) == {"a", "b", "c"} for _, part in split.table.groupby("split"))


@pytest.mark.parametrize("seed", range(3))
def test_grouped_folds_have_each_class_in_proportion(seed):
    samples = joined(made({"a": 750}, per_source=10), made({"b": 750}, per_source=30), made({"c": 750}, per_source=50))
    for fold in range(5):
        counts = counts_of(split_of(samples, test_fraction=0, folds=5, fold=fold, seed=seed), "split", "label")
        assert all(120 <= counts["val", name] <= 180 for name in "abc")


def test_a_random_split_has_sources_in_two_parts():
    split = split_of(made({"a": 100, "b": 100}, per_source=10), "random")
    assert (split.table.groupby("source")["split"].nunique() > 1).any()


def test_auto_is_grouped_only_if_every_source_is_known():
    known = made({"a": 60, "b": 60}, per_source=6)
    assert split_of(known).table.equals(split_of(known, "grouped").table)
    partly = Samples(known.table.assign(source=["", *known.table["source"][1:]]), ROOT)
    assert split_of(partly).table["split"].equals(split_of(known, "random").table["split"])
    with pytest.raises(BloodcellError, match=r"needs the source of every image; 1 of 120 are unknown\n.*group_regex"):
        split_of(partly, "grouped")


def test_grouped_with_few_images_or_sources_still_splits():
    split = split_of(made({"a": 5, "b": 5}, per_source=1), "grouped")  # fewer than the 7 parts of 15 %
    assert set(split.table["split"]) == {"train", "val", "test"}
    split = split_of(made({"a": 40, "b": 40}, per_source=20), "grouped", test_fraction=0)  # four sources
    assert counts_of(split, "split") == {"train": 60, "val": 20} or counts_of(split, "split") == {
        "train": 40,
        "val": 40,
    }


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_one_source_stays_in_training(seed):
    split = split_of(joined(made({"a": 60, "b": 60}, 6), made({"rare": 6}, 6)), "grouped", seed=seed)
    assert counts_of(split, "label", "split")[("rare", "train")] == 6


def test_too_few_sources_for_the_folds():
    with pytest.raises(BloodcellError, match="into 6 parts needs as many sources; there are 4"):
        split_of(made({"a": 8, "b": 8}, per_source=4), folds=6, fold=0, test_fraction=0)
    with pytest.raises(BloodcellError, match="into 5 parts needs as many images of some class; the most is 3"):
        split_of(made({"a": 3, "b": 3}, per_source=1), folds=5, fold=0, test_fraction=0)


def test_a_class_without_training_images_is_refused():
    samples = joined(made({"a": 9, "b": 9}, split="train"), made({"a": 1, "BASOPHIL": 2}, split="test"))
    with pytest.raises(BloodcellError, match="class BASOPHIL is in the test part but not in training"):
        split_of(samples)


def test_a_class_may_be_missing_in_the_test_part():
    samples = joined(made({"a": 9, "b": 9}, split="train"), made({"a": 1}, split="test"))
    assert counts_of(split_of(samples), "split", "label")[("test", "a")] == 1


@pytest.mark.parametrize(("counts", "names"), [({"a": 9}, "a"), ({"only": 1}, "only")])
def test_one_class_is_not_enough(counts, names):
    with pytest.raises(BloodcellError, match=f"at least two classes; it has {names}"):
        split_of(made(counts))


def test_a_test_part_alone_cannot_train():
    with pytest.raises(BloodcellError, match="at least two classes; it has none"):
        split_of(made({"a": 9, "b": 9}, split="test"))
