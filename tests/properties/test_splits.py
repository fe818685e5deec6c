"""Whatever the samples, a split is a partition that keeps sources together, whatever the order of the rows."""

from pathlib import Path

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bloodcell.data.samples import samples_table
from bloodcell.data.splits import assign_splits
from tests.conftest import data_config
from tests.properties.attempts import attempt

ROOT = Path("/images")


@st.composite
def rows(draw, known=False):
    """Draw rows of a samples table: (file, label, split, source)."""
    count = draw(st.integers(1, 40))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    numbers = draw(st.lists(st.integers(0 if not known else 1, 12), min_size=count, max_size=count))
    return [
        (ROOT / f"{i:02}.png", label, "", f"s{n}" if n else "")
        for i, (label, n) in enumerate(zip(labels, numbers, strict=True))
    ]


fractions = st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.49])


def split_of(given, **arguments):
    """Return path -> (split, source, label); None where the split is refused in three lines at most."""
    samples, refusal = attempt(assign_splits, samples_table(given, ROOT), data_config(**arguments))
    if refusal:
        return None
    table = samples.table
    columns = zip(table["split"], table["source"], table["label"], strict=True)
    return dict(zip(table["path"], columns, strict=True))


@settings(max_examples=25)
@given(rows(), st.sampled_from(["auto", "random", "grouped"]), fractions, fractions, st.integers(0, 5), st.randoms())
def test_every_image_is_in_one_part_whatever_the_order(given, split, val, test, seed, random):
    arguments = {"split": split, "val_fraction": val, "test_fraction": test, "seed": seed}
    found = split_of(given, **arguments)
    random.shuffle(given)
    assert split_of(given, **arguments) == found
    assume(found is not None)
    assert set(found) == {file.name for file, *_ in given}
    assert {part for part, _, _ in found.values()} <= {"train", "val", "test"}
    assert {part for part, _, _ in found.values()} >= {"train"}
    for name, fraction in (("val", val), ("test", test)):
        assert fraction or name not in {part for part, _, _ in found.values()}
    trained = {label for part, _, label in found.values() if part == "train"}
    assert trained == {label for _, label, _, _ in given}


@settings(max_examples=25)
@given(rows(known=True), st.sampled_from(["auto", "grouped"]), fractions, fractions, st.integers(0, 5))
def test_no_source_is_on_two_sides(given, split, val, test, seed):
    found = split_of(given, split=split, val_fraction=val, test_fraction=test, seed=seed)
    assume(found is not None)
    sides = {}
    for part, source, _ in found.values():
        assert sides.setdefault(source, part) == part


@settings(max_examples=25)
@given(rows(known=True), st.sampled_from(["random", "grouped"]), st.integers(2, 4), st.integers(0, 5), fractions)
def test_folds_are_a_partition_of_what_is_no_test(given, split, folds, seed, test):
    arguments = {"split": split, "folds": folds, "seed": seed, "test_fraction": test}
    found = [split_of(given, **arguments, fold=fold) for fold in range(folds)]
    assume(all(one is not None for one in found))
    tests = [{path for path, (part, _, _) in one.items() if part == "test"} for one in found]
    assert all(one == tests[0] for one in tests)
    counts = np.array([[one[path][0] == "val" for path in found[0]] for one in found]).sum(axis=0)
    assert counts.tolist() == [path not in tests[0] for path in found[0]]
