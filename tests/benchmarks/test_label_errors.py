"""What the benchmark of wrong labels plants."""

import pandas as pd

from tests.benchmarks.label_errors import planted


def test_a_share_of_the_groups_gets_another_class_with_all_its_copies():
    groups = [f"g{i // 3}" for i in range(120)]
    table = pd.DataFrame(
        {"path": map(str, range(120)), "group": groups, "label": ["abcd"[i // 30] for i in range(120)]}
    )
    wrong, truth = planted(table, 0.1, 0)
    assert len(truth) == 4
    changed = wrong["label"] != table["label"]
    assert set(table["group"][changed]) == set(truth)
    assert changed.sum() == 12
    assert (wrong.groupby("group")["label"].nunique() == 1).all()
    assert dict(table[["group", "label"]][changed].to_numpy()) == truth
    assert planted(table, 0.1, 0)[1] == truth != planted(table, 0.1, 1)[1]
