"""Samplers: an epoch depends on seed and number only, shares are exact, and images are used in turn."""

from collections import Counter

import pandas as pd
import pytest
import torch

from bloodcell.data.loaders import EpochBatches, ImageDataset, RowsDataset, image_loader, rows_loader
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samplers import BalancedSampler, ShuffleSampler, build_sampler
from tests.conftest import data_config


def table(cells):
    """Return training rows: table([("kaggle", "EOS", [155, 33])]) has two sources of 155 and 33 images of EOS."""
    rows = [
        (f"{name}/{label}/{number}_{copy}.png", label, "train", f"{name}/{label}{number}", name)
        for name, label, sources in cells
        for number, copies in enumerate(sources)
        for copy in range(copies)
    ]
    return pd.DataFrame(rows, columns=["path", "label", "split", "source", "set"])


def epochs(sampler, count):
    """Return the positions of the first epochs."""
    orders = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    return orders


def stream_of(orders):
    return [position for order in orders for position in order]


#: Two sets; the first has a class with many sources and one with few, with different numbers of copies.
UNEVEN = [
    ("one", "EOS", [9, 1, 4, 2, 7, 3, 1, 1, 5, 2, 6, 1]),
    ("one", "MON", [20, 3]),
    ("two", "EOS", [1] * 30),
    ("two", "LYM", [1] * 6),
]


def test_small_epochs_continue_the_permutation():
    orders = epochs(ShuffleSampler(10, seed=3, size=4), 5)
    whole = epochs(ShuffleSampler(10, seed=3), 2)
    assert stream_of(orders) == whole[0] + whole[1]
    assert [len(order) for order in orders] == [4] * 5


def test_a_larger_epoch_uses_every_image_once_before_any_twice():
    orders = epochs(ShuffleSampler(4, seed=3, size=10), 2)
    stream = stream_of(orders)
    assert all(sorted(stream[start : start + 4]) == [0, 1, 2, 3] for start in range(0, 20, 4))


@pytest.mark.parametrize("kind", ["files", "balanced"])
def test_an_epoch_depends_on_seed_and_number_only(kind):
    rows = table(UNEVEN)
    orders = epochs(build_sampler(rows, data_config(sampling=kind, epoch_size=20), 5), 6)
    again = build_sampler(rows, data_config(sampling=kind, epoch_size=20), 5)
    again.set_epoch(4)
    before = torch.get_rng_state()
    assert list(again) == orders[4] == list(again)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({tuple(order) for order in orders}) == 6
    other = build_sampler(rows, data_config(sampling=kind, epoch_size=20), 6)
    assert list(other) != orders[0]


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_any_whole_number_is_a_seed_of_the_balanced_sampler(seed):
    assert len(list(BalancedSampler(table(UNEVEN), seed))) == len(table(UNEVEN))


def test_balanced_gives_sets_and_their_classes_equal_shares_in_each_epoch():
    rows = table(UNEVEN)
    for order in epochs(BalancedSampler(rows, seed=0, size=40), 7):
        drawn = rows.iloc[order]
        assert drawn.groupby(["set", "label"]).size().to_list() == [10, 10, 10, 10]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_is_an_exponent_of_the_number_of_sources(balance):
    rows = table([("", "a", [3] * 16), ("", "b", [1] * 4)])
    sampler = BalancedSampler(rows, seed=1, balance=balance, size=60)
    weight = 16 ** (1 - balance), 4 ** (1 - balance)
    expected = 60 * weight[0] / sum(weight)
    assert [Counter(rows["label"].iloc[order])["a"] for order in epochs(sampler, 4)] == [round(expected)] * 4


def test_sets_are_weighted_before_their_classes():
    rows = table([("one", "a", [1] * 8), ("one", "b", [1] * 8), ("two", "a", [1] * 4)])
    for balance, expected in ((0.0, [24, 24, 12]), (1.0, [15, 15, 30])):
        (order,) = epochs(BalancedSampler(rows, 0, balance, 60), 1)
        assert rows.iloc[order].groupby(["set", "label"]).size().to_list() == expected


def test_fractional_shares_are_balanced_over_the_epochs():
    rows = table([("", name, [1] * 5) for name in "abc"])
    counts = [Counter(rows["label"].iloc[order]) for order in epochs(BalancedSampler(rows, 0, size=4), 60)]
    assert all(set(count.values()) <= {1, 2} for count in counts)
    total = sum(counts, Counter())
    assert all(abs(total[name] - 80) <= 3 for name in "abc")


def test_every_class_is_used_if_epochs_are_smaller_than_the_number_of_classes():
    rows = table([("", name, [1]) for name in "abcdefghij"])
    total = Counter(position for order in epochs(BalancedSampler(rows, 0, size=3), 40) for position in order)
    assert set(total) == set(range(10))
    assert max(total.values()) - min(total.values()) <= 3


def test_sources_of_a_class_take_turns_and_so_do_the_images_of_a_source():
    rows = table(UNEVEN)
    stream = rows.iloc[stream_of(epochs(BalancedSampler(rows, seed=2, size=16), 36))]
    for _, cell in stream.groupby(["set", "label"]):
        by_source = Counter(cell["source"])
        assert max(by_source.values()) - min(by_source.values()) <= 1
        for _, images in cell.groupby("source"):
            available = rows[rows["source"] == images["source"].iloc[0]]["path"]
            by_image = Counter(dict.fromkeys(available, 0)) + Counter(images["path"])
            seen = [by_image[path] for path in available]
            assert max(seen) - min(seen) <= 1


def test_an_image_of_unknown_source_is_a_source_of_its_own():
    rows = table([("", "a", [6, 1]), ("", "b", [2])])
    rows["source"] = rows["source"].where(rows["label"] == "a", "")
    sampler = BalancedSampler(rows, seed=0)
    assert sorted(len(cell) for cell in sampler.strata) == [2, 2]
    a, b = (Counter(rows.iloc[order]["label"].tolist()) for order in epochs(BalancedSampler(rows, 0, size=8), 2))
    assert a == b == {"a": 4, "b": 4}


def test_batches_of_rows_and_of_files_follow_the_sampler(tmp_path, write_image):
    rows = table([("", "a", [3]), ("", "b", [1, 1])])
    files = [write_image(tmp_path / f"{i}.png", seed=i) for i in range(5)]
    labels, inputs = torch.arange(5), torch.arange(5.0)[:, None]
    data = data_config(sampling="balanced", epoch_size=8)
    sampler = build_sampler(rows, data, 0)
    by_row = rows_loader(RowsDataset(inputs, torch.arange(5)[None], labels, sampler), 3)
    by_file = image_loader(ImageDataset(files, labels, Preprocessing(16)), 3, 0, build_sampler(rows, data, 0))
    assert len(by_row) == len(by_file) == len(EpochBatches(sampler, 5, 3)) == 3
    for epoch in (0, 1):
        for loader in (by_row, by_file):
            loader.sampler.set_epoch(epoch)
        drawn = [torch.cat([part for _, part in loader]) for loader in (by_row, by_file)]
        assert torch.equal(*drawn)
        assert torch.equal(drawn[0], sampler.order())
