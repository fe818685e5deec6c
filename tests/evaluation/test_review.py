"""The review of a folder: judged once, sorted by doubt, the next ones, and the agreement of readers."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from bloodcell.data.corrections import CANNOT_TELL, Decision
from bloodcell.data.decision_feed import DecisionFeed
from bloodcell.data.decision_log import append_decisions
from bloodcell.evaluation.reviews.cell_store import CellStore, JudgedCell
from bloodcell.evaluation.reviews.folder_cells import Reader, folder_of
from bloodcell.evaluation.reviews.next_cells import doubt, next_cells
from bloodcell.evaluation.reviews.review import review
from bloodcell.inference.engine import Engine
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.agreement import kappa
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import ReviewConfig


@pytest.fixture
def folder(smears, tmp_path):
    for number in range(6):
        (tmp_path / "cells").mkdir(exist_ok=True)
        shutil.copy(smears.root / smears.table["path"].iloc[number], tmp_path / "cells" / f"{number}.jpeg")
    return tmp_path / "cells"


@pytest.fixture
def reviewed(compose, quick_run, folder, tmp_path):
    """Review the folder: reviewed("next=3") -> tables of all cells and of the next ones."""

    def run(*overrides):
        out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
        cfg = compose(f"checkpoint={quick_run}", f"images={folder}", "device=cpu", *overrides, verb="review")
        review(typed(cfg, ReviewConfig), out)
        return [pd.read_csv(out / f"{name}.csv", keep_default_na=False) for name in ("cells", "next")]

    return run


def test_all_cells_by_doubt_and_the_next_ones(reviewed, folder, capsys):
    cells, chosen = reviewed("next=3")
    assert sorted(cells["path"]) == [f"{number}.jpeg" for number in range(6)]
    assert cells["doubt"].is_monotonic_decreasing
    assert list(chosen["next"]) == [1, 2, 3]
    decided = [Decision(path=path, label=CANNOT_TELL, who="Ada") for path in chosen["path"]]
    append_decisions(folder / "corrections.csv", decided)
    cells, others = reviewed("next=6")
    assert not set(others["path"]) & set(chosen["path"])
    assert len(others) == 3
    assert (cells["confirmed"] == CANNOT_TELL).sum() == 3
    assert "6 cells in 6 pictures, 3 with a label" in capsys.readouterr().out


def test_only_what_is_new_or_changed_is_judged(quick_run, folder, cache):
    engines = load_engines(str(quick_run), "cpu")
    judged = []

    def read():
        reader = Reader(engines, None, "one", folder_of(str(folder)), 0.8, cache)
        reader.judge(lambda done, of: judged.append((done, of)))
        return reader.table()

    first = read()
    assert judged.pop() == (6, 6)
    judged.clear()
    assert read().digest == first.digest
    assert not judged
    shutil.copy(folder / "0.jpeg", folder / "new.jpeg")
    (folder / "1.jpeg").unlink()
    (folder / "2.jpeg").write_text("no picture any more")
    second = read()
    assert judged[-1] == (6, 6)
    assert len(judged) == 1  # one group: the new one and the changed one
    assert list(second.table["path"]) == ["0.jpeg", "3.jpeg", "4.jpeg", "5.jpeg", "new.jpeg"]
    assert second.unread == {"2.jpeg": "not an image"}
    assert second.digest != first.digest
    assert second.features.shape == (5, engines[0].classifier.net.width)
    np.testing.assert_allclose(np.linalg.norm(second.features.astype(float), axis=1), 1, atol=1e-2)


def test_the_answers_are_those_of_predict(quick_run, folder, cache):
    engine: Engine = load_engines(str(quick_run), "cpu")[0]
    reader = Reader([engine], None, "one", folder_of(str(folder)), 0.8, cache)
    reader.judge(lambda *_: None)
    table = reader.table().table
    (group,) = reader.ensemble.predict([[str(folder / path) for path in table["path"]]], 6)
    np.testing.assert_allclose(table[[f"p_{name}" for name in reader.classes]], group.probabilities, rtol=1e-5)


def test_a_damaged_store_is_one_clear_line(tmp_path):
    (tmp_path / "a.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(BloodcellError, match="remove it, and the cells are judged anew"):
        CellStore(tmp_path / "a.sqlite")


def test_a_picture_is_kept_whole_or_not_at_all(tmp_path):
    store = CellStore(tmp_path / "a.sqlite")

    def cells():
        yield JudgedCell("a", (1, 0, 0, 5, 5, False, None), np.array([0.5, 0.5]), np.ones(3), b"jpeg")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add([("a", "stamp", "")], cells())
    assert not store.rows()
    assert not store.stamps()


def test_doubt_is_one_minus_the_lead_of_the_first():
    np.testing.assert_allclose(doubt(np.array([[0.5, 0.5], [1, 0], [0.7, 0.3]])), [1, 0, 0.6])


def clouds(*sizes):
    """Return features of unit length of clouds of like cells, and the cloud of each cell."""
    rng, own = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    features = np.eye(8)[own] + 0.05 * rng.normal(size=(len(own), 8))
    return features / np.linalg.norm(features, axis=1, keepdims=True), own


def test_the_next_cells_are_of_clouds_without_a_label_the_largest_first():
    features, own = clouds(90, 10, 60, 30)
    shares, is_open = np.full((190, 3), [0.4, 0.35, 0.25]), np.ones(190, bool)
    assert own[next_cells(shares, features, is_open, 4)].tolist() == [0, 2, 3, 1]
    is_open[[5, 7, 110]] = False  # of the first cloud and of the third
    assert own[next_cells(shares, features, is_open, 2)].tolist() == [3, 1]
    assert sorted(next_cells(shares, features, is_open, 500)) == np.flatnonzero(is_open).tolist()  # each once
    assert next_cells(shares, features, np.zeros(190, bool), 5) == []
    assert next_cells(np.empty((0, 3)), np.empty((0, 8)), np.empty(0, bool), 5) == []


def test_a_cloud_in_doubt_comes_before_one_that_is_a_little_larger():
    features, own = clouds(50, 40)
    sure, unsure = [0.98, 0.01, 0.01], [0.4, 0.35, 0.25]
    shares = np.where(own[:, None] == 0, sure, unsure)
    assert own[next_cells(shares, features, np.ones(90, bool), 2)].tolist() == [1, 0]


def test_each_next_cell_lowers_the_doubt_weighted_distance_to_the_labels_most():
    rng = np.random.default_rng(1)
    features = np.abs(rng.normal(size=(60, 5)))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    shares, is_open = rng.dirichlet(np.ones(3), 60), np.arange(60) >= 3
    apart, weight, known = 1 - features @ features.T, 1 + doubt(shares), [0, 1, 2]
    for row in next_cells(shares, features, is_open, 6):
        left = [(weight * apart[[*known, one]].min(axis=0))[is_open].sum() for one in range(60)]
        assert left[row] == pytest.approx(min(left), rel=1e-5)
        known.append(row)


@pytest.mark.timeout(60)
def test_of_very_many_cells_some_are_compared():
    features, own = clouds(9000, 3000)
    chosen = next_cells(np.full((12_000, 2), 0.5), features.astype(np.float16), np.arange(12_000) >= 1000, 3)
    assert own[chosen[0]] == 1
    assert len(set(chosen)) == 3
    assert min(chosen) >= 1000


@pytest.mark.parametrize("noise", [0, 0.2, 1])
def test_kappa_is_that_of_scikit_learn_within_its_interval(noise):
    rng = np.random.default_rng(1)
    first = rng.choice(["a", "b", "c"], 60, p=[0.6, 0.3, 0.1])
    second = np.where(rng.random(60) < noise, rng.choice(["a", "b", "d"], 60), first)
    found = kappa(first, second)
    assert found.value == pytest.approx(cohen_kappa_score(first, second))
    assert -1 <= found.low < found.value <= found.high <= 1
    assert found.high - found.low > 0.05  # also of readers who always agree


def test_kappa_is_less_sure_if_the_cells_of_a_slide_are_alike():
    rng = np.random.default_rng(2)
    slides = np.repeat(np.arange(8), 50)
    first = rng.choice(["a", "b"], 400)
    second = np.where(slides < 6, first, "a")  # on two slides, the second reader calls all cells a
    mixed = rng.permutation(400)  # the same labels, and slides that say nothing
    alone, alike, unlike = kappa(first, second), kappa(first, second, slides), kappa(first, second, slides[mixed])
    assert alike.value == unlike.value == alone.value
    assert alike.high - alike.low > 2 * (alone.high - alone.low)
    assert unlike.high - unlike.low < 1.5 * (alone.high - alone.low)
    assert kappa(first, second, ["one"] * 400) == alone


def test_kappa_of_one_label_alone_is_not_defined():
    assert kappa(["a", "a"], ["a", "a"]) is None
    assert kappa([], []) is None


def test_a_feed_reads_what_others_add_and_what_replaces_the_file(tmp_path):
    file = tmp_path / "c.csv"
    feed = DecisionFeed(file, ["a", "b"])
    assert feed.add([Decision(path="1", label="a")]) == {"1"}
    append_decisions(file, [Decision(path="2", label="b"), Decision(path="3", label="")])
    with file.open("ab") as opened:
        opened.write(b'"4","","a","half')
    assert feed.refresh() == {"2", "3"}
    assert feed.refresh() == set()
    assert feed.add([Decision(path="5", label="b")]) == {"5"}  # the half line is gone
    assert [one.path for one in feed.decisions] == ["1", "2", "3", "5"]
    file.unlink()
    assert feed.refresh() == {"1", "2", "3", "5"}
    append_decisions(file, [Decision(path="6", label="b")])
    assert feed.refresh() == {"6"}
    with file.open("ab") as opened:
        opened.write(b'"7","","c","","","","","","",""\n')
    with pytest.raises(BloodcellError, match="row 3: label 'c' is no class"):
        feed.refresh()
