import numpy as np
import pytest

from bloodcell.audits.probe import leak_probe


def probe(folder, train, val):
    columns = [[folder / path for path in train["path"]], train["label"], [folder / path for path in val["path"]]]
    return leak_probe(columns[0], list(columns[1]), columns[2], list(val["label"]))


@pytest.mark.parametrize("strength", ["mild", "kaggle"])
def test_leak_on_a_random_split_of_copies(smears, strength):
    folder, truth = smears(strength)
    mixed = truth.sample(frac=1, random_state=0)
    found = probe(folder, mixed[40:], mixed[:40])
    assert found.leak
    assert found.copies >= found.aligned / 2
    assert found.accuracy > found.accuracy_unseen
    assert f"{found.copies} of {found.aligned} validation images" in found.message("validation")


@pytest.mark.parametrize("strength", ["mild", "kaggle", "strong"])
def test_no_leak_on_a_split_by_cell_and_on_independent_images(smears, strength):
    folder, truth = smears(strength)
    cells = truth["source"].unique()
    val = truth["source"].isin(np.random.default_rng(0).permutation(cells)[:6])
    assert not probe(folder, truth[~val], truth[val]).leak
    single = truth.groupby("source").head(1)
    found = probe(folder, single[::2], single[1::2])
    assert (found.leak, found.copies) == (False, 0)


def test_same_figures_each_time(smears, monkeypatch):
    monkeypatch.setattr("bloodcell.audits.probe.SECONDS", 60.0)  # a busy machine does not cut it short
    folder, truth = smears("kaggle")
    assert probe(folder, truth[::2], truth[1::2]) == probe(folder, truth[::2], truth[1::2])


def test_nothing_to_compare(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    found = leak_probe([], [], [tmp_path / "text.jpg"], ["A"])
    assert not found.leak
