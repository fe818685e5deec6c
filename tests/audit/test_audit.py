import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from bloodcell.audits import chunks, keypoints
from bloodcell.audits.audit_report import matched_pair_figure
from bloodcell.audits.pipeline import audit
from bloodcell.runtime.errors import BloodcellError

SLOW = pytest.mark.slow
STRENGTHS = ["mild", "kaggle", "strong"]


def true_leaks(truth):
    return set(truth.groupby("source").filter(lambda group: group["split"].nunique() > 1)["source"])


@pytest.mark.parametrize("strength", ["kaggle", pytest.param("mild", marks=SLOW), pytest.param("strong", marks=SLOW)])
@pytest.mark.parametrize("with_originals", [pytest.param(True, marks=SLOW), False])
def test_no_leak_missed_and_no_false_alarm(smears, tmp_path, strength, with_originals):
    folder, truth = smears(strength)
    found = audit(truth, folder, folder / "originals" if with_originals else None, tmp_path)
    assert list(found.sources["path"]) == list(truth["path"])
    assert adjusted_rand_score(truth["source"], found.sources["source"]) == 1
    # The example pair of each leak shows one true cell, and each true leak has its row.
    cell = truth.set_index("path")["source"]
    pairs = list(zip(cell[found.leaks["path_a"]], cell[found.leaks["path_b"]], strict=True))
    assert {a for a, _ in pairs} == true_leaks(truth)
    assert all(a == b for a, b in pairs)
    assert set(found.leaks["split_a"]) == {"train"}
    assert set(found.leaks["split_b"]) == {"test"}
    assert found.conflicts.empty
    assert found.unreadable.empty


@pytest.fixture(scope="module")
def with_originals(smears, tmp_path_factory):
    """Return an audit of smears with their photographs, and the truth."""
    folder, truth = smears("kaggle")
    return audit(truth, folder, folder / "originals", tmp_path_factory.mktemp("audit")), truth


def test_originals_name_the_photograph(with_originals):
    found, truth = with_originals
    assert (found.sources["photograph"] == truth["photograph"]).mean() >= 0.99
    assert set(found.sources["strength"]) == {"strong"}


def test_verdict_counts_cells_and_names_the_leak(with_originals):
    found, truth = with_originals
    verdict = found.verdict()
    test = truth[truth["split"] == "test"]
    leaked = test["source"].isin(true_leaks(truth))
    fewest = test.groupby("label")["source"].nunique().min()
    assert f"{len(test)} test images show {test['source'].nunique()} cells; {fewest} of class" in verdict
    shared = test["source"][leaked].nunique()
    assert f"Leak: {leaked.sum()} test images have {shared} cells in common with training." in verdict


def test_different_labels_of_one_cell_are_a_conflict(smears, tmp_path):
    folder, truth = smears("kaggle")
    wrong = truth.head(40).copy()
    wrong.loc[0, "label"] = "BASOPHIL"
    found = audit(wrong, folder, None, tmp_path)
    assert len(found.conflicts) == 1
    assert set(found.conflicts.loc[0, ["label_a", "label_b"]]) == {"BASOPHIL", truth.loc[0, "label"]}
    assert "1 cell carries different labels" in found.verdict()


def degenerate(folder):
    """Write files that are no usable images, and return their samples."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pictures = {
        "black": np.zeros((240, 320, 3), np.uint8),
        "white": np.full((240, 320, 3), 255, np.uint8),
        "dot": np.zeros((1, 1, 3), np.uint8),
        "line": np.zeros((1, 500, 3), np.uint8),
        "noise": rng.integers(0, 256, (64, 64, 3), np.uint8),
        "twin": np.full((240, 320, 3), 255, np.uint8),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    cv2.imwrite(str(folder / "bmp.bmp"), pictures["white"])
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    names = [*[f"{name}.png" for name in pictures], "bmp.bmp", "text.jpg", "empty.jpg", "absent.jpg"]
    return pd.DataFrame({"path": names, "label": "A", "split": [None] * len(names)})


@pytest.mark.parametrize("with_originals", [True, False])
def test_unusable_files_are_reported_and_match_nothing(smears, tmp_path, with_originals):
    samples = degenerate(tmp_path / "odd")
    photographs = smears("mild")[0] / "originals" if with_originals else None
    found = audit(samples, tmp_path / "odd", photographs, tmp_path / "state")
    assert found.sources["source"].nunique() == len(samples)
    assert set(found.sources["strength"]) == {"none"}
    assert dict(zip(found.unreadable["path"], found.unreadable["reason"], strict=True)) == {
        "text.jpg": "not an image",
        "empty.jpg": "empty file",
        "absent.jpg": "no such file",
    }
    kinds = found.duplicates.set_index("path")["kind"]
    assert set(kinds.index) == {"white.png", "twin.png", "bmp.bmp"}
    assert set(kinds) == {"pixels"}
    assert "3 files cannot be read" in found.verdict()


def test_single_image(smears, tmp_path):
    folder, truth = smears("mild")
    found = audit(truth.head(1), folder, None, tmp_path)
    assert list(found.sources["strength"]) == ["none"]
    assert found.leaks.empty


def test_byte_identical_files(smears, tmp_path):
    folder, truth = smears("mild")
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpeg", "a/2.jpeg"):
        (tmp_path / name).write_bytes((folder / truth["path"][0]).read_bytes())
    samples = pd.DataFrame({"path": ["a/1.jpeg", "a/2.jpeg"], "label": "A", "split": ["train", "test"]})
    found = audit(samples, tmp_path, None, tmp_path / "state")
    assert list(found.duplicates["kind"]) == ["bytes", "bytes"]
    assert len(found.leaks) == 1


def test_a_folder_without_photographs_is_refused(smears, tmp_path):
    folder, truth = smears("mild")
    (tmp_path / "bare").mkdir()
    with pytest.raises(BloodcellError, match="no original photograph that can be read"):
        audit(truth, folder, tmp_path / "bare", tmp_path)


@pytest.mark.parametrize("with_originals", [pytest.param(True, marks=SLOW), False])
def test_interrupted_audit_continues(smears, tmp_path, monkeypatch, with_originals):
    folder, truth = smears("mild")
    photographs = folder / "originals" if with_originals else None
    monkeypatch.setattr(chunks, "CHUNK", 16)
    truth = truth.head(64)
    whole = audit(truth, folder, photographs, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(done, total, phase):
        if total == len(truth) and done >= 32:
            raise Killed

    with pytest.raises(Killed):
        audit(truth, folder, photographs, tmp_path / "state", kill)
    read, extract = [], keypoints.extract
    monkeypatch.setattr(keypoints, "extract", lambda path: read.append(path) or extract(path))
    again = audit(truth, folder, photographs, tmp_path / "state")
    assert len(read) == len(truth) - 32
    pd.testing.assert_frame_equal(again.sources, whole.sources)


def test_changed_file_is_read_again(tmp_path):
    calls = []

    def compute(items):
        calls.append(items)
        return np.arange(items.start, items.stop)

    def run(keys):
        return np.concatenate(list(chunks.ChunkStore(tmp_path, print).results("features", keys, compute)))

    assert run(["a 1", "b 1"]).tolist() == [0, 1]
    run(["a 1", "b 1"])
    assert len(calls) == 1
    run(["a 1", "b 2"])
    assert len(calls) == 2


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY torn"])
def test_torn_result_is_computed_again(tmp_path, content):
    (tmp_path / "numbers.npy").write_bytes(content)
    assert chunks.ChunkStore(tmp_path, print).result("numbers", lambda: np.arange(3)).tolist() == [0, 1, 2]


def test_figure_is_a_png_of_both_images(smears):
    folder, truth = smears("kaggle")
    first, second = truth[truth["photograph"] == truth["photograph"][0]]["path"][:2]
    data, inliers = matched_pair_figure(folder / first, folder / second)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 648, 3)
    assert inliers >= 20
    stranger = truth[truth["source"] != truth["source"][0]]["path"].iloc[-1]
    assert matched_pair_figure(folder / first, folder / stranger)[1] == 0
