"""Wrong labels that are planted are found, each source having one vote."""

import numpy as np
import pandas as pd
import pytest

from bloodcell.metrics.label_errors import COLUMNS, label_quality, suspected_labels
from tests.evaluation.grouped import CLASSES, simulated


def planted(seed, sources=300, share=0.05, skill=3.0):
    """Return a simulated table with another label on a share of its sources, and source -> true label of these."""
    rng = np.random.default_rng(seed)
    table = simulated(rng, sources, skill)
    truth = dict(table[["source", "label"]].drop_duplicates().to_numpy())
    chosen = rng.permutation(np.unique(table["source"]))[: round(share * sources)]
    wrong = {name: CLASSES[(CLASSES.index(truth[name]) + int(rng.integers(1, 4))) % 4] for name in chosen}
    return table.assign(label=table["source"].map(truth | wrong)), {name: truth[name] for name in chosen}


def table(*rows):
    """Return a table of (source, label, p_a, p_b, p_c) rows."""
    found = pd.DataFrame(rows, columns=["source", "label", "p_a", "p_b", "p_c"])
    return found.assign(path=[f"{i}.png" for i in range(len(rows))], split="val", prediction="a")


#: Four sources of each of two classes, of which nothing contradicts the labels.
SOUND = [(f"{label}{i}", label, *p) for label, p in (("a", (0.9, 0.1, 0)), ("b", (0.1, 0.9, 0))) for i in range(4)]


@pytest.mark.parametrize("seed", range(5))
def test_planted_errors_are_among_the_worst_tenth(seed):
    rows, truth = planted(seed)
    ranking = label_quality(rows)
    assert len(ranking) == 300
    assert ranking["quality"].is_monotonic_increasing
    assert np.mean([name in set(ranking["source"][:30]) for name in truth]) >= 0.9


def test_what_is_suspected_is_mostly_wrong_and_the_suggestion_mostly_right():
    found, planted_ones, right = 0, 0, 0
    for seed in range(5):
        rows, truth = planted(seed)
        suspects = suspected_labels(rows)
        hits = suspects[suspects["source"].isin(list(truth))]
        found, planted_ones = found + len(suspects), planted_ones + len(hits)
        right += (hits["suggested"] == hits["source"].map(truth)).sum()
    assert planted_ones >= 0.8 * 5 * 15
    assert planted_ones >= 0.8 * found
    assert right >= 0.95 * planted_ones


def test_suspects_are_those_of_the_ranking_in_its_order():
    rows, _ = planted(0)
    ranking, suspects = label_quality(rows), suspected_labels(rows)
    assert list(suspects.columns) == list(ranking.columns) == COLUMNS
    assert list(suspects["source"]) == [name for name in ranking["source"] if name in set(suspects["source"])]
    assert (suspects["suggested"] != suspects["label"]).all()


def test_the_order_of_the_rows_and_of_the_classes_does_not_matter():
    rows, _ = planted(1)
    shuffled = rows.sample(frac=1, random_state=0)[[*rows.columns[:5], *rows.columns[:4:-1]]]
    pd.testing.assert_frame_equal(suspected_labels(shuffled), suspected_labels(rows))


def test_a_source_has_one_vote_however_many_its_images():
    wrong = [("x", "a", 0.06, 0.94, 0), ("x", "a", 0, 0.94, 0.06), ("x", "a", 0.09, 0.91, 0)]
    suspects = suspected_labels(table(*SOUND, *wrong))
    assert len(suspects) == 1
    row = suspects.iloc[0]
    assert tuple(row[["source", "label", "suggested", "images", "path"]]) == ("x", "a", "b", 3, "9.png")
    assert row["quality"] == pytest.approx(0.05)
    copies = table(*SOUND, *wrong * 20)
    assert list(suspected_labels(copies)["images"]) == [60]


def test_a_source_that_is_mostly_right_is_not_suspected_for_one_of_its_images():
    rows = table(*SOUND, ("x", "a", 0, 1, 0), *[("x", "a", 1, 0, 0)] * 4)
    assert suspected_labels(rows).empty
    assert label_quality(rows)["source"][0] == "x"


def test_a_source_of_two_labels_has_a_vote_under_each():
    suspects = suspected_labels(table(*SOUND, ("x", "a", 0.05, 0.95, 0), ("x", "b", 0.05, 0.95, 0)))
    assert [tuple(row) for row in suspects[["source", "label", "path"]].to_numpy()] == [("x", "a", "8.png")]


def test_an_image_of_unknown_source_stands_for_itself():
    rows = table(*SOUND, ("", "a", 0.05, 0.95, 0), ("", "a", 0.9, 0.1, 0), ("", "b", 0.95, 0.05, 0))
    suspects = suspected_labels(rows)
    assert set(suspects["source"]) == {"8.png", "10.png"}
    assert list(suspects["images"]) == [1, 1]
    assert len(label_quality(rows)) == 11


def test_of_one_class_nothing_is_suspected():
    rows = table(*SOUND[:4], ("x", "a", 0.05, 0.95, 0))
    assert suspected_labels(rows).empty
    assert list(suspected_labels(rows).columns) == COLUMNS
    assert label_quality(rows)["source"][0] == "x"


def test_the_only_source_of_a_class_is_not_suspected():
    rows = table(*SOUND, ("x", "c", 0.95, 0.05, 0))
    assert suspected_labels(rows).empty


def test_a_class_without_labels_may_be_suggested():
    rows = table(*SOUND, ("x", "a", 0.02, 0.08, 0.9), ("y", "a", 0.04, 0.94, 0.02))
    suspects = suspected_labels(rows)
    assert [tuple(row) for row in suspects[["source", "suggested"]].to_numpy()] == [("x", "c")]


def test_where_labels_and_votes_agree_none_is_suspected():
    assert suspected_labels(table(*SOUND)).empty
