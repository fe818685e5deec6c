"""The page of a folder by what its server answers: cells, labels, and who may write."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from bloodcell.app import app
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL, read_corrections
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import AppConfig
from tests.painted import known_field


@pytest.fixture(scope="module")
def folder(cell_folder):
    return cell_folder(12)


@pytest.fixture
def page(review, folder, tmp_path):
    return review(folder, f"corrections={tmp_path / 'c.csv'}", "reviewer=Ada")


def test_all_cells_with_their_answers_and_pictures(page, folder, quick_run):
    cells = page.json("cells")
    assert cells["paths"] == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpeg"))
    assert cells["slides"] == ["slide 1", "slide 2"]
    assert cells["number"] is None  # a picture is a cell
    assert all(0 <= one <= 10_000 for one in cells["doubt"] + cells["confidence"])
    status, headers, body = page.ask("GET", f"/review/views?digest={cells['digest']}&rows=3,11")
    assert (status, headers["cross-origin-resource-policy"]) == (200, "same-origin")
    pictures = json.loads(body)
    assert list(pictures) == ["3", "11"]
    with Image.open(io.BytesIO(base64.b64decode(pictures["3"]))) as picture:
        assert picture.size == (32, 32)  # as the net sees it
    for rows in ("12", "-1", "", "1,", "a", ",".join(["1"] * 201)):
        assert page.ask("GET", f"/review/views?digest={cells['digest']}&rows={rows}")[0] == 422
    assert page.ask("GET", "/review/views?digest=old&rows=1")[0] == 409
    assert page.ask("GET", "/review/field/0.jpg")[0] == 200
    assert sum(page.json("cell/3")["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_a_decision_is_in_the_file_before_its_answer(page, tmp_path):
    classes = page.json("cells")["prediction"]
    assert page.decide([4, "MONOCYTE"], [5, NO_CELL])[0] == 200
    first, second = read_corrections(tmp_path / "c.csv").decisions
    assert (first.path, first.label, first.who, first.cell) == (page.json("cells")["paths"][4], "MONOCYTE", "Ada", None)
    assert first.predicted == ["EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"][classes[4]]
    assert second.label == NO_CELL
    assert page.json("labels")["own"][3:7] == [-1, 2, 4, -1]
    page.decide([4, ""])
    assert page.json("labels")["own"][4] == -1
    assert len(read_corrections(tmp_path / "c.csv").decisions) == 3  # nothing is taken out of the file


def test_a_decision_that_is_sent_again_counts_once(page, tmp_path):
    for _ in range(3):
        assert page.decide([0, "MONOCYTE"], when="2026-01-31T09:30:00.125Z")[0] == 200
    assert len(read_corrections(tmp_path / "c.csv").decisions) == 1


def test_labels_of_other_programs_and_of_a_new_start_are_there(page, review, folder, tmp_path):
    page.decide([1, "MONOCYTE"])
    other = review(folder, f"corrections={tmp_path / 'c.csv'}", "reviewer=Ben")
    before = page.json("state")["version"]
    other.decide([1, "EOSINOPHIL"], [2, CANNOT_TELL])
    assert page.json("state")["version"] > before
    labels = page.json("labels")
    assert labels["own"][1:3] == [2, -1]
    assert labels["all"][1:3] == [6, 5]  # the readers disagree, and one cannot tell
    assert other.json("labels")["own"][1:3] == [0, 5]
    assert other.json("state")["digest"] == page.json("state")["digest"]


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ({"decided": [[0, "BLAST"]]}, 422, "pairs of a row and a label"),
        ({"decided": [[99, "MONOCYTE"]]}, 422, "pairs of a row and a label"),
        ({"decided": [[True, "MONOCYTE"]]}, 422, "pairs of a row and a label"),
        ({"decided": []}, 422, "pairs of a row and a label"),
        ({"when": "today"}, 422, "when in UTC"),
        ({"digest": "another"}, 409, "the cells have changed"),
        ([], 422, "no JSON object"),
        ({"more": "x" * 100_000}, 422, "the limit"),
    ],
)
def test_what_is_wrong_is_refused_and_not_kept(page, tmp_path, content, status, said):
    right = {"digest": page.json("state")["digest"], "when": "2026-01-31T09:30:00Z", "decided": [[0, "MONOCYTE"]]}
    found, _, body = page.ask("POST", "/review/decide", json.dumps(right | content if content else content))
    assert (found, said in json.loads(body)["reason"]) == (status, True)
    assert not (tmp_path / "c.csv").exists()


def test_another_site_can_neither_write_nor_start_a_learning(page, tmp_path):
    body = json.dumps({"digest": page.json("state")["digest"], "when": "2026-01-31T09:30:00Z", "decided": [[0, ""]]})
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Origin": f"http://{page.host}", "Host": "evil.example"},
    ):
        for address in ("/review/decide", "/review/learn"):
            assert page.ask("POST", address, body, headers.items())[0] in (400, 403)
    assert not (tmp_path / "c.csv").exists()


def test_a_blind_reader_gets_nothing_of_the_classifier_or_of_others(review, page, folder, tmp_path):
    page.decide([1, "MONOCYTE"])
    blind = review(folder, f"corrections={tmp_path / 'c.csv'}", "reviewer=Ben", "blind=true")
    assert not {"prediction", "confidence", "doubt", "unlike", "abstained"} & set(blind.json("cells"))
    assert blind.json("labels")["all"] == [-1] * 12
    for address in ("next", "count", "agreement", "cell/0", "near/0", "map/0.jpg", "corrections.csv"):
        assert blind.ask("GET", f"/review/{address}")[0] == 403
    blind.decide([1, "MONOCYTE"], [0, "MONOCYTE"])
    assert read_corrections(tmp_path / "c.csv").decisions[-1].predicted  # what it would have said is kept all the same
    lines = page.json("agreement")["lines"]
    assert lines[0] == "Ada and Ben agree on 1 of 1 cell; kappa is not defined, as there is one label alone"
    assert any("the classifier agree" in line for line in lines[1:])


def test_the_count_takes_labels_as_known(page):
    before = page.json("count")
    labels = page.json("cells")["prediction"]
    page.decide(*([row, "MONOCYTE"] for row in range(12)))
    count = page.json("count")
    assert (count["cells"], count["confirmed"]) == (12, 12)
    assert {one["name"]: one["count"] for one in count["shares"]}["MONOCYTE"] == 12
    assert before["confirmed"] == 0
    assert page.json("count?slide=slide%201")["cells"] == 6
    assert len(labels) == 12
    assert page.ask("GET", "/review/count?slide=none")[0] == 422


def test_next_ones_have_no_label(page):
    page.decide([3, "MONOCYTE"], [4, CANNOT_TELL])
    assert set(page.json("next?count=12")["rows"]) == set(range(12)) - {3, 4}
    assert len(page.json("next?count=5")["rows"]) == 5


def test_cells_of_fields_are_kept_with_their_boxes(review, tmp_path):
    picture, boxes = known_field(0)
    (tmp_path / "slide").mkdir()
    Image.fromarray(picture).save(tmp_path / "slide" / "field.png")
    page = review(tmp_path / "slide", "cells=all")
    cells = page.json("cells")
    assert cells["number"] == list(range(1, len(cells["number"]) + 1))
    assert page.decide([2, "MONOCYTE"])[0] == 200
    (decision,) = read_corrections(tmp_path / "slide" / "corrections.csv").decisions
    assert decision.cell == 3
    assert list(decision.box) == page.json("cell/2")["box"]
    assert min(np.abs(np.subtract(box, decision.box)).max() for box in boxes) < 12


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["host=0.0.0.0"], "writes corrections"),
        (["images=/no/such"], "no such file or folder"),
        (["corrections={tmp}/other.csv"], "has the columns image, class"),
        (["corrections={tmp}"], "no regular file"),
        (["slide_regex='(none)_'"], "finds no slide"),
        (["blind=true", "images=null"], "it goes with images=FOLDER"),
    ],
)
def test_a_folder_that_cannot_be_reviewed_is_one_clear_line(compose, quick_run, folder, tmp_path, overrides, said):
    (tmp_path / "other.csv").write_text("image,class\na,b\n")
    overrides = [one.format(tmp=tmp_path) for one in overrides]
    cfg = compose(f"checkpoint={quick_run}", "port=0", "device=cpu", f"images={folder}", *overrides, verb="app")
    with pytest.raises(BloodcellError, match=said):
        app.serve(typed(cfg, AppConfig))
