"""The second opinion: which cells are disputed, and who may vote."""

import shutil

import pandas as pd
import pytest

from bloodcell.data.samples import read_samples, write_samples
from tests.benchmarks.second_opinion import disputed, main


@pytest.fixture
def samples(learnt_run):
    """Return the training and validation samples of a run, one of whose cells has two labels."""
    known = read_samples(learnt_run / "samples.csv").of_split("train", "val")
    first = known.table.index[known.table["source"] == known.table["source"][0]]
    known.table.loc[first, "label"] = "MONOCYTE"
    known.table.loc[first[:1], "label"] = "EOSINOPHIL"
    return known


def test_cells_with_two_labels_and_suspected_ones_are_disputed(samples):
    first, other = samples.table["source"][0], samples.table["source"].iloc[-1]
    found = disputed(samples, None, 1).table
    assert found[["source", "label"]].to_numpy().tolist() == [[first, "EOSINOPHIL"], [first, "MONOCYTE"]]
    label = samples.table["label"].iloc[-1]
    suspects = pd.DataFrame({"source": [f"kaggle/{other}", first], "label": [label.lower(), "none"]})
    assert set(disputed(samples, suspects, 9).table["source"]) == {first, other}


def test_nets_that_never_saw_the_cells_vote(samples, learnt_run, tmp_path, capsys):
    write_samples(samples, tmp_path / "samples.csv")
    given = ["--samples", str(tmp_path / "samples.csv"), "--output", str(tmp_path / "votes.csv"), "--images", "2"]
    with pytest.raises(SystemExit, match="was trained on some of these cells"):
        main([str(learnt_run), *given])
    strangers = [tmp_path / "one.ckpt", tmp_path / "two.ckpt"]  # in no run, so that their data are not known
    for file in strangers:
        shutil.copy(learnt_run / "checkpoints" / "last.ckpt", file)
    main([*map(str, strangers), *given])
    table = pd.read_csv(tmp_path / "votes.csv")
    assert list(table) == ["source", "label", "images", "path", "vote_1", "p_1", "vote_2", "p_2", "for_label", "most"]
    assert table["images"].tolist() == [1, 2]
    assert (table["vote_1"] == table["vote_2"]).all()
    assert ((table["vote_1"] == table["label"]) * 2 == table["for_label"]).all()
    assert "2 labels of 1 cells" in capsys.readouterr().out
