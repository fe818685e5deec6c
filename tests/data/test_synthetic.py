"""Synthetic smears: reproducible files, known sources and boxes, and safe writing."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bloodcell.data.synthetic import smears
from bloodcell.data.synthetic.copies import STRENGTHS, make_copy
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.data.synthetic.smears import Smears, write_smears
from bloodcell.runtime.errors import BloodcellError

SMALL = Smears(train_photographs=3, test_photographs=2, copies=3, seed=7)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smears") / "small"
    write_smears(folder, SMALL)
    return folder


def read(path):
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture[..., ::-1]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_settings_give_the_same_bytes(small, tmp_path):
    write_smears(tmp_path / "again", SMALL)
    assert contents(tmp_path / "again") == contents(small)


def test_another_seed_gives_other_photographs(small, tmp_path):
    write_smears(tmp_path / "other", replace(SMALL, seed=8))
    name = Path("originals/BloodImage_00000.jpg")
    assert contents(tmp_path / "other")[name] != contents(small)[name]


def test_a_larger_set_contains_the_photographs_of_a_smaller_one(small, tmp_path):
    write_smears(tmp_path / "larger", replace(SMALL, train_photographs=4, copies=1))
    here, there = (
        {path.read_bytes() for path in (folder / "originals").iterdir()} for folder in (small, tmp_path / "larger")
    )
    assert len(there) == len(here) + len(CLASSES)
    assert here < there


def test_truth_lists_exactly_the_files(small):
    truth = pd.read_csv(small / "truth.csv")
    assert list(truth) == ["path", "split", "label", "source", "photograph", "x0", "y0", "x1", "y1"]
    assert set(truth.path) == {path.relative_to(small).as_posix() for path in small.glob("images/**/*.jpeg")}
    assert truth.path.is_unique
    assert (truth.path.str.split("/").str[1] == truth.split).all()
    assert (truth.path.str.split("/").str[2] == truth.label).all()
    assert truth.path.str.fullmatch(r"images/\w+/[A-Z]+/_\d+_\d+\.jpeg").all()
    assert truth.value_counts(["split", "label"]).to_dict() == {
        (split, label): files for split, files in (("TRAIN", 9), ("TEST", 6)) for label in CLASSES
    }
    assert {path.stem for path in (small / "originals").iterdir()} == set(truth.photograph)
    assert (truth.groupby("photograph").size() == SMALL.copies).all()


def test_files_are_images_of_320_by_240(small):
    assert {read(path).shape for path in small.rglob("*.jp*g")} == {(240, 320, 3)}


def test_no_source_is_in_both_splits(small):
    truth = pd.read_csv(small / "truth.csv")
    assert (truth.groupby("source").split.nunique() == 1).all()
    assert (truth.groupby("source").photograph.nunique() == 1).all()
    assert truth.source.nunique() == len(CLASSES) * (3 + 2)


def test_names_do_not_identify_the_photograph(tmp_path):
    write_smears(tmp_path / "set", Smears(train_photographs=6, test_photographs=1, copies=8))
    truth = pd.read_csv(tmp_path / "set" / "truth.csv").query("split == 'TRAIN' and label == 'MONOCYTE'")
    for part in (1, 2):
        numbers = truth.path.str.extract(r"_(\d+)_(\d+)\.jpeg")[part - 1].astype(int)
        neighbours = truth.photograph.iloc[np.argsort(numbers.to_numpy(), kind="stable")].to_numpy()
        assert (neighbours[1:] == neighbours[:-1]).mean() < 0.35  # 7 of 47 by chance


@pytest.mark.parametrize("label", CLASSES)
def test_box_holds_a_purple_nucleus_and_little_purple_lies_outside(label):
    for seed in range(6):
        picture, (x0, y0, x1, y1) = paint_photograph(label, np.random.default_rng(seed))
        assert (picture.shape, picture.dtype) == ((240, 320, 3), np.uint8)
        assert 0 <= x0 < x1 <= 320
        assert 0 <= y0 < y1 <= 240
        _, green, blue = cv2.GaussianBlur(picture, (0, 0), 2).astype(float).transpose(2, 0, 1)
        light = np.percentile(picture, 95, axis=(0, 1))
        purple = (green / light[1] < 0.62) & (blue / light[2] - green / light[1] > 0.25)
        inside = purple[y0:y1, x0:x1].sum()
        assert inside > 0.1 * (x1 - x0) * (y1 - y0)
        assert inside > 0.75 * purple.sum()


def test_boxes_match_the_copies(small):
    truth = pd.read_csv(small / "truth.csv")
    assert truth.x0.ge(0).all()
    assert truth.x1.le(320).all()
    assert truth.y0.ge(0).all()
    assert truth.y1.le(240).all()
    for row in truth.itertuples():
        excess = np.ptp(read(small / row.path).astype(int)[..., [1, 2]], axis=2) * 1.0
        box = excess[row.y0 : row.y1, row.x0 : row.x1]
        assert box.size > 30 * 30
        assert np.percentile(box, 90) > np.percentile(excess, 90)


def test_box_is_that_of_the_copied_disc():
    picture = np.full((240, 320, 3), 200, np.uint8)
    cv2.ellipse(picture, (170, 110), (45, 30), 0, 0, 360, (0, 255, 0), -1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        copy, box = make_copy(picture, (125, 80, 216, 141), STRENGTHS["kaggle"], rng)
        rows, columns = np.nonzero((copy[..., 1] > 180) & (copy[..., 0] < 60))
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(box, found)).max() <= 3


def test_strengths_are_ordered():
    picture, box = paint_photograph("MONOCYTE", np.random.default_rng(0))

    def spread(strength, measure):
        rng = np.random.default_rng(1)
        return [measure(make_copy(picture, box, STRENGTHS[strength], rng)[0]) for _ in range(40)]

    black = [np.mean(spread(strength, lambda copy: (copy == 0).mean())) for strength in STRENGTHS]
    assert list(STRENGTHS) == ["mild", "kaggle", "strong"]
    assert black[0] < 0.7 * black[1] < 0.7 * black[2]
    light = [np.std(spread(strength, lambda copy: np.percentile(copy, 95))) for strength in STRENGTHS]
    assert max(light[:2]) < 4
    assert light[2] > 10


def test_copies_have_black_corners_and_originals_have_none(small):
    corners = [read(path)[[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1) for path in small.glob("images/**/*.jpeg")]
    assert np.mean(np.array(corners) < 16) > 0.3
    assert min(read(path).max(axis=2).min() for path in small.glob("originals/*")) > 16


def test_rescans_are_two_photographs_of_one_cell(tmp_path):
    write_smears(tmp_path / "set", replace(SMALL, rescans=2))
    truth = pd.read_csv(tmp_path / "set" / "truth.csv")
    photographs = truth.groupby("source").photograph.unique()
    twice = photographs[photographs.str.len() == 2]
    assert len(twice) == 2 * len(CLASSES)
    splits = truth.groupby("source").split.nunique()
    assert splits[twice.index].tolist() == [2, 1] * len(CLASSES)
    assert truth.groupby("source").label.nunique().eq(1).all()
    for pair in twice:
        shift, likeness = registration(*(read(tmp_path / "set" / "originals" / f"{name}.jpg") for name in pair))
        assert 0.18 <= np.max(np.abs(shift) / (320, 240)) <= 0.42
        assert likeness > 0.8


def registration(one, other):
    """Return the shift (x, y) that aligns two photographs, and the correlation of their common part."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (one, other)]
    padded = cv2.copyMakeBorder(grey[0], 100, 100, 140, 140, cv2.BORDER_CONSTANT, value=0)
    mask = cv2.copyMakeBorder(np.full_like(grey[0], 255), 100, 100, 140, 140, cv2.BORDER_CONSTANT, value=0)
    best = (-1.0, (0, 0))
    for dx in range(-132, 133, 4):
        for dy in range(-100, 101, 4):
            if max(abs(dx) / 320, abs(dy) / 240) < 0.15 or (dx and dy):
                continue
            window = np.s_[100 + dy : 340 + dy, 140 + dx : 460 + dx]
            shared = mask[window] > 0
            value = np.corrcoef(padded[window][shared], grey[1][shared])[0, 1]
            best = max(best, (value, (dx, dy)))
    return np.array(best[1]), best[0]


def test_uneven_photographs_give_equal_numbers_of_files(tmp_path):
    smears = Smears(train_photographs=12, test_photographs=4, copies=2, uneven=True)
    write_smears(tmp_path / "set", smears)
    truth = pd.read_csv(tmp_path / "set" / "truth.csv")
    assert set(truth.value_counts(["split", "label"])) == {24, 8}
    photographs = truth[truth.split == "TRAIN"].groupby("label").photograph.nunique()
    assert photographs.to_dict() == {"EOSINOPHIL": 6, "LYMPHOCYTE": 2, "MONOCYTE": 1, "NEUTROPHIL": 12}


def test_a_complete_set_is_left_unchanged(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    write_smears(small, SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_other_settings_replace_the_set(tmp_path):
    tiny = Smears(train_photographs=1, test_photographs=1, copies=1)
    write_smears(tmp_path / "set", tiny)
    write_smears(tmp_path / "set", replace(tiny, copies=2))
    assert len(list(tmp_path.glob("set/images/*/*/*.jpeg"))) == 16
    assert json.loads((tmp_path / "set" / "smears.json").read_text("utf-8"))["copies"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_several_writers_at_the_same_time_succeed(tmp_path):
    tiny = Smears(train_photographs=1, test_photographs=1, copies=1)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: write_smears(tmp_path / "set", tiny), range(3)))
    assert len(list(tmp_path.glob("set/images/*/*/*.jpeg"))) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(BloodcellError, match="something else than synthetic smears"):
        write_smears(tmp_path, SMALL)
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "years of work"


def test_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BloodcellError, match=r"cannot write synthetic smears to .*file"):
        write_smears(tmp_path / "file" / "set", SMALL)


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, picture):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smears, "_write_jpeg", full)
    with pytest.raises(BloodcellError, match=r"No space left on device; choose another folder"):
        write_smears(tmp_path / "set", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_photographs": 0}, "train_photographs=0; give a whole number of at least 1"),
        ({"copies": 2.5}, "copies=2.5; give a whole number"),
        ({"seed": -1}, "seed=-1; give a whole number of at least 0"),
        ({"strength": "weak"}, "strength=weak; choose mild, kaggle or strong"),
        ({"rescans": 4}, "rescans=4; the smallest class has 3"),
        ({"copies": 10**6}, "20,000,000 files; the limit is 1,000,000"),
    ],
)
def test_wrong_settings_are_refused(wrong, message, tmp_path):
    with pytest.raises(BloodcellError, match=message):
        write_smears(tmp_path / "set", replace(SMALL, **wrong))
    assert not (tmp_path / "set").exists()


def histogram(picture):
    thumbnail = cv2.resize(picture, (80, 60), interpolation=cv2.INTER_AREA)
    return cv2.calcHist([thumbnail], [0, 1, 2], None, [8] * 3, [0, 256] * 3).ravel()


@pytest.mark.slow
def test_colours_identify_the_photograph_and_not_the_class(tmp_path):
    write_smears(tmp_path / "set", Smears(train_photographs=16, test_photographs=12, copies=5))
    truth = pd.read_csv(tmp_path / "set" / "truth.csv")
    pictures = [read(tmp_path / "set" / path) for path in truth.path]
    histograms = np.array([histogram(picture) for picture in pictures])
    colours = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    label, train = truth.label.to_numpy(), (truth.split == "TRAIN").to_numpy()
    held_out = train & (np.random.default_rng(0).uniform(size=len(truth)) < 0.2)

    def accuracy(model, features, fitted, scored):
        return model.fit(features[fitted], label[fitted]).score(features[scored], label[scored])

    nearest = KNeighborsClassifier(1)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    assert accuracy(nearest, histograms, train & ~held_out, held_out) >= 0.95
    assert accuracy(nearest, histograms, train, ~train) <= 0.6
    assert accuracy(linear, colours, train, ~train) <= 0.6
