"""Whatever the classes, sources and fractions: every image is in one part, and no source is on two sides."""

from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.data.samples import Samples, samples_table
from bloodcell.data.splits import assign_splits
from bloodcell.errors import BloodcellError

ROOT = Path("/r")

#: Class -> sizes of its sources.
CLASSES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "Ä x"]), st.lists(st.integers(1, 6), min_size=1, max_size=8), min_size=2
)
FRACTIONS = st.sampled_from([0, 0.1, 0.15, 0.2, 0.25, 0.4])


def made(classes):
    rows = [
        (ROOT / f"{name}_{source}_{copy}.png", name, "", f"{name}{source}")
        for name, sizes in classes.items()
        for source, size in enumerate(sizes)
        for copy in range(size)
    ]
    return samples_table(rows, ROOT)


def split(samples, **arguments):
    """Return the table with its splits; None where there is too little to split, which is said."""
    try:
        return assign_splits(samples, **arguments).table
    except BloodcellError as error:
        assert len(str(error).splitlines()) <= 2
        return None


def by_path(table):
    return table.set_index("path")["split"].to_dict()


@given(CLASSES, st.sampled_from(["random", "grouped", "auto"]), FRACTIONS, FRACTIONS, st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_every_image_is_in_one_part_and_no_source_on_two_sides(classes, method, val, test, seed):
    samples = made(classes)
    arguments = {"split": method, "val_fraction": val, "test_fraction": test, "seed": seed}
    table = split(samples, **arguments)
    if table is None:
        return
    assert sorted(table["path"]) == sorted(samples.table["path"])
    assert set(table["split"]) <= {"train", "val", "test"}
    assert table.set_index("path")["label"].to_dict() == samples.table.set_index("path")["label"].to_dict()
    for name, fraction in (("val", val), ("test", test)):
        assert fraction > 0 or not (table["split"] == name).any()
    if method != "random":
        assert (table.groupby("source")["split"].nunique() == 1).all()
    assert by_path(split(samples, **arguments)) == by_path(table)
    assert set(table.loc[table["split"] == "train", "label"]) == set(classes)


@given(st.lists(st.integers(40, 90), min_size=2, max_size=4), FRACTIONS, FRACTIONS, st.integers(0, 999))
@settings(max_examples=40)
def test_fractions_are_those_of_each_class(sizes, val, test, seed):
    samples = made({f"c{number}": [1] * size for number, size in enumerate(sizes)})
    table = assign_splits(samples, "random", val, test, seed=seed).table
    for _, rows in table.groupby("label"):
        for name, fraction in (("val", val), ("test", test)):
            assert abs((rows["split"] == name).sum() - fraction * len(rows)) <= 1.5


@given(CLASSES, st.randoms(use_true_random=False), st.sampled_from(["random", "grouped"]), st.integers(0, 99))
@settings(max_examples=50)
def test_the_order_in_which_files_were_found_does_not_matter(classes, shuffled, method, seed):
    samples = made(classes)
    rows = [(ROOT / row.path, row.label, row.split, row.source) for row in samples.table.itertuples()]
    shuffled.shuffle(rows)
    one, other = (split(each, split=method, seed=seed) for each in (samples, samples_table(rows, ROOT)))
    assert (one is None) == (other is None)
    assert one is None or by_path(one) == by_path(other)


@given(CLASSES, st.sampled_from(["random", "grouped"]), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=40)
def test_folds_partition_what_trains(classes, method, folds, seed):
    samples = made(classes)
    tables = [split(samples, split=method, test_fraction=0, folds=folds, fold=fold, seed=seed) for fold in range(folds)]
    if any(table is None for table in tables):
        return
    validated = pd.concat([table.loc[table["split"] == "val", "path"] for table in tables])
    assert sorted(validated) == sorted(samples.table["path"])


@given(CLASSES, st.integers(0, 99))
@settings(max_examples=40)
def test_splits_that_are_given_stay(classes, seed):
    table = made(classes).table
    given_splits = ["test" if number % 3 == 0 else "train" for number in range(len(table))]
    found = split(Samples(table.assign(split=given_splits), ROOT), split="random", seed=seed)
    if found is not None:
        was = dict(zip(table["path"], given_splits, strict=True))
        assert all((was[path] == "test") == (now == "test") for path, now in by_path(found).items())
