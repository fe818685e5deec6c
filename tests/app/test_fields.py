"""Fields on the page: the cells of `predict`, which of them count, and the differential count of all fields."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bloodcell.app.running_count import RunningCount
from bloodcell.data.cells import find_cells
from bloodcell.evaluation.differentials.slide_counts import reasons_of
from bloodcell.evaluation.run import read_table
from bloodcell.inference import predict
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.differential import Cells, differential_of
from bloodcell.runtime.errors import BloodcellError

NOTHING = {"counts": {}, "left_out": {}, "fields": 0, "empty": 0, "unlike": 0}


def post(page, numbers, **headers):
    """Return status and JSON of the answer to numbers of cells, or to a body as it is."""
    body = numbers if isinstance(numbers, bytes) else json.dumps(numbers)
    status, _, answer = page.ask("POST", "/differential", body, headers)
    return status, json.loads(answer)


def classes_of(run):
    return load_engines(str(run), "cpu")[0].classes


def test_the_cells_of_a_field_are_the_rows_of_predict(page, twelve, compose, quick_run, tmp_path):
    cfg = compose(f"checkpoint={quick_run}", f"output={tmp_path / 'cells.csv'}", "abstain_below=0.8", verb="predict")
    cfg.images = str(twelve)
    assert predict.predict(cfg)["cells"] == 12
    status, answer = page.examine(twelve.read_bytes(), twelve)
    assert status == 200
    header, _, lines = (tmp_path / "cells.csv").read_text().partition("\n")
    assert answer["rows"] == lines
    assert f'data-cell-header="{header.replace(chr(34), "&#34;")}\n"' in page.ask("GET", "/")[2].decode()
    table = read_table(tmp_path / "cells.csv")
    assert [cell["box"] for cell in answer["cells"]] == table[["left", "top", "width", "height"]].to_numpy().tolist()
    assert [cell["left_out"] for cell in answer["cells"]] == reasons_of(table).tolist()
    for key in ("number", "prediction", "abstained", "border"):
        assert [cell[key] for cell in answer["cells"]] == table[key].tolist()
    chances = [cell["probabilities"] for cell in answer["cells"]]
    np.testing.assert_allclose(chances, table.filter(like="p_").to_numpy(), rtol=1e-5)


def test_the_picture_of_a_field_is_not_larger_than_the_page_shows_it(page, twelve):
    _, answer = page.examine(twelve.read_bytes())
    assert answer["size"] == [1280, 720]
    content = base64.b64decode(answer["picture"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (1024, 576)


@pytest.mark.parametrize(("cells", "field", "smear"), [("auto", 12, None), ("all", 12, 1), ("one", None, None)])
def test_what_a_field_is(start, smears, twelve, cells, field, smear):
    page = start(f"cells={cells}")
    for path, expected in ((twelve, field), (smears.root / smears.table["path"][0], smear)):
        answer = page.examine(path.read_bytes())[1]
        assert len(answer.get("cells", [])) == (expected or 0)
        assert ("row" in answer) == (expected is None)
        assert answer.get("found") == (True if cells == "auto" and expected is None else None)


def test_further_pictures_of_a_file_are_counted(page, twelve, smears):
    assert page.examine(twelve.read_bytes())[1]["others"] == 0
    for path in (twelve, smears.root / smears.table["path"][0]):
        content, picture = io.BytesIO(), Image.open(path).convert("RGB")
        picture.save(content, "TIFF", save_all=True, append_images=[picture, picture])
        assert page.examine(content.getvalue(), "a.tif")[1]["others"] == 2


def test_a_picture_without_a_cell_says_so(start, page, tmp_path):
    Image.new("RGB", (200, 160), (225, 200, 205)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert page.examine(content)[1]["found"] is False
    answer = start("cells=all").examine(content)[1]
    assert (answer["cells"], answer["rows"]) == ([], "")


def test_unlike_cells_do_not_count_and_border_comes_first(start, limited, twelve, tmp_path):
    with Image.open(twelve) as picture:
        x = round(find_cells(np.asarray(picture))[0].centre[0])
        picture.crop((x, 0, *picture.size)).save(tmp_path / "cut.png")  # the border cuts a cell at the left
    page = start("cells=all", "abstain_below=0", change=limited(0.5))
    cells = page.examine((tmp_path / "cut.png").read_bytes())[1]["cells"]
    cut = [cell["box"][0] <= 0 or cell["box"][1] <= 0 for cell in cells]
    assert any(cut)
    assert [cell["left_out"] for cell in cells] == ["border" if one else "unlike" for one in cut]


def test_too_many_cells_are_refused(start, twelve, monkeypatch):
    monkeypatch.setattr("bloodcell.app.examiner.MOST", 11)
    status, answer = start().examine(twelve.read_bytes())
    assert status == 422
    assert answer == {"reason": "12 cells; the page shows 11 at most, bloodcell predict takes any number"}


def test_the_count_is_that_of_the_metrics(page, quick_run):
    engine = load_engines(str(quick_run), "cpu")[0]
    counts = dict(zip(engine.classes, (30, 12, 0, 5), strict=True))
    status, answer = post(page, NOTHING | {"counts": counts, "left_out": {"border": 2}, "fields": 4})
    expected = differential_of(Cells(tuple(engine.classes), tuple(counts.values()), (0,) * 4), engine.confusion)
    assert status == 200
    assert answer["cells"] == 47
    assert answer["corrected"] == expected.corrected
    for share, one in zip(answer["shares"], expected.shares, strict=True):
        assert (share["name"], share["count"]) == (one.name, one.count)
        assert [share[key] for key in ("share", "low", "high")] == [one.share, one.low, one.high]
    assert answer["left_out"] == "2 cut by the top or left border"


def test_what_is_unknown_or_odd_is_said(start, quick_run):
    def forgets(engine):
        engine.confusion = None

    (first, *_) = classes_of(quick_run)
    page = start(change=forgets)
    _, answer = post(page, NOTHING | {"counts": {first: 9}, "left_out": {"unlike": 1}, "fields": 1, "unlike": 1})
    assert not answer["corrected"]
    assert "the confusions of the classifier are unknown (this checkpoint does not keep them" in answer["notes"][0]
    assert answer["notes"][1].endswith("these fields (10\N{NO-BREAK SPACE}%)")
    _, answer = post(page, NOTHING)
    assert (answer["cells"], answer["shares"]) == (0, [])
    assert answer["notes"][-1] == "no white cell counts, so there are no shares: these fields"


def test_the_page_counts_white_cells_and_tells_others_beside_them():
    names = ["lymphocyte", "neutrophil", "platelet"]
    engine = SimpleNamespace(confusion=None, tta="none", classifier=None, left_out=[])
    running = RunningCount(SimpleNamespace(classes=names, engines=[engine], tta="none"), 0.0)
    answer = running.count(NOTHING | {"counts": {"neutrophil": 30, "lymphocyte": 10, "platelet": 4}, "fields": 1})
    assert answer["cells"] == 40
    assert [(one["name"], one["share"]) for one in answer["shares"]] == [("lymphocyte", 0.25), ("neutrophil", 0.75)]
    assert answer["others"].startswith("beside the white cells: 4 platelet (10.0 per 100 white cells, ")
    answer = running.count(NOTHING | {"counts": {"platelet": 4}, "fields": 1})
    assert (answer["cells"], answer["shares"], answer["others"]) == (0, [], "beside the white cells: 4 platelet")


def test_many_classes_are_counted_without_their_confusions_and_that_is_said():
    names = [f"class {number}" for number in range(31)]
    known = Confusion(tuple(names), tuple(map(tuple, np.eye(31).tolist())), (9.0,) * 31)
    engine = SimpleNamespace(confusion=known, tta="none", classifier=None, left_out=[])
    running = RunningCount(SimpleNamespace(classes=names, engines=[engine], tta="none"), 0.0)
    answer = running.count(NOTHING | {"counts": {"class 3": 9}, "fields": 1})
    assert not answer["corrected"]
    assert "for more than 30 classes they take minutes" in answer["notes"][0]


@pytest.mark.parametrize(
    "numbers",
    [
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[" * 4000,
        b"9" * 4000,
        [],
        {},
        NOTHING | {"more": 1},
        NOTHING | {"counts": [1, 2]},
        NOTHING | {"counts": {"none of them": 1}},
        NOTHING | {"counts": {"\ud800": 1}},
        NOTHING | {"left_out": {"boredom": 1}},
        NOTHING | {"left_out": {"border": -1}},
        NOTHING | {"left_out": {"border": 10**8}},
        NOTHING | {"left_out": {"border": 1.0}},
        NOTHING | {"left_out": {"border": True}},
        NOTHING | {"left_out": {"border": "1"}},
        NOTHING | {"left_out": {"border": float("nan")}},
        NOTHING | {"fields": None},
        NOTHING | {"empty": 1},
        NOTHING | {"unlike": 1},
    ],
)
def test_other_numbers_are_refused(page, numbers):
    status, answer = post(page, numbers)
    assert status == 422
    assert list(answer) == ["reason"]
    assert "\n" not in answer["reason"]


def test_too_long_numbers_and_other_pages_are_refused(page):
    assert post(page, b" " * 100_000)[0] == 413
    assert post(page, NOTHING, Origin="http://evil.example")[0] == 403
    assert page.ask("GET", "/differential")[0] == 405


def test_a_choice_of_cells_that_is_none_is_refused(start):
    with pytest.raises(BloodcellError, match="cells=some; choose"):
        start("cells=some")
