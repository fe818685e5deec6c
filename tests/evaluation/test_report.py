"""The report shows what metrics.json and scikit-learn say, loads nothing, and is accessible."""

import base64
import itertools
import re
import time
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from bloodcell.evaluation.report import PICTURES, Origin, name_of, shown_parts, write_report
from bloodcell.evaluation.verdict import RELIABLE
from bloodcell.metrics.by_class import scores_by_class, sources_needed
from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.reliability import ece_by_chance, reliability, tempered_table
from bloodcell.metrics.summary import metrics_of

CLASSES = ["EOS", "LYM", "a<b>"]


def table(split, sources=30, copies=4, seed=0, prefix=""):
    generator = np.random.default_rng(seed)
    label = np.repeat(np.arange(sources) % 3, copies)
    rows = pd.DataFrame({"path": [f"{split}/{prefix}{i}.png" for i in range(len(label))], "split": split})
    rows = rows.assign(
        source=np.repeat([f"{prefix}{i}" for i in range(sources)], copies), label=np.array(CLASSES)[label]
    )
    noise = np.repeat(generator.dirichlet(np.ones(3), sources), copies, axis=0)
    own = generator.dirichlet(np.ones(3), len(label))
    return predictions_table(rows, CLASSES, 0.35 * np.eye(3)[label] + 0.45 * noise + 0.2 * own)


@pytest.fixture(scope="module")
def predictions():
    return pd.concat([table("val", prefix="v"), table("test", seed=1, prefix="t")], ignore_index=True)


class Page(HTMLParser):
    """What a page consists of: every element with its attributes and text, tables as rows of cells."""

    VOID = frozenset(("meta", "br", "img", "wbr", "path", "circle", "input"))

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", "parents": [*self.open], **dict(attributes)}
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", "parents": [*self.open], **dict(attributes)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data.replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag, inside=None, **attributes):
        return [
            element
            for element in self.elements
            if element["tag"] == tag
            and all(element.get(name.strip("_").replace("_", "-")) == value for name, value in attributes.items())
            and (inside is None or any(parent is inside for parent in element["parents"]))
        ]

    def cells(self, table):
        """Return row header -> texts of the other cells, of which the interval is apart: "59.1 %|49 to 70"."""
        rows = {}
        for row in self.all("tr", inside=table):
            header, *_ = self.all("th", inside=row)
            rows[header["text"].strip()] = [
                [part.strip() for part in [cell["text"], *(span["text"] for span in self.all("span", inside=cell))]]
                for cell in self.all("td", inside=row)
            ]
        return {
            header: [
                [re.sub(re.escape(cell[-1]) + "$", "", cell[0]).strip(), cell[-1]] if len(cell) > 1 else cell
                for cell in row
            ]
            for header, row in rows.items()
            if row
        }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    def write(predictions, trained_on=frozenset(), root=None, suspects=None, **origin):
        file = tmp_path_factory.mktemp("page") / "report.html"
        write_report(predictions, file, Origin("a <run>", **origin), trained_on, root, suspects)
        return Page(file.read_text(encoding="utf-8")), file.read_text(encoding="utf-8")

    return write


@pytest.fixture(scope="module")
def page(written, predictions):
    return written(predictions, trained_on=frozenset({"x"}))[0]


def shown(value, low=None, high=None):
    return [f"{100 * value:.1f} %", *([f"{100 * low:.0f} to {100 * high:.0f}"] if low is not None else [])]


def test_the_overview_is_metrics_json(page, predictions):
    metrics = metrics_of(predictions)
    rows = page.cells(page.all("table", id="overview")[0])
    for part, name in (("val", "validation images"), ("test", "test images")):
        names = ("accuracy", "accuracy_by_source", "macro_recall_by_source", "macro_f1_by_source")
        figures = [[metrics[f"{part}/{one}{end}"] for end in ("", "_low", "_high")] for one in names]
        assert rows[name] == [["120"], ["30"], *(shown(*one) for one in figures), shown(metrics[f"{part}/macro_f1"])]


def test_the_verdict_comes_first_and_is_of_the_test_part(page, predictions):
    metrics = metrics_of(predictions)
    first = page.all("p")[1]["text"]
    accuracy, interval = shown(*(metrics[f"test/accuracy{end}"] for end in ("", "_low", "_high")))
    assert (
        first
        == f"Right on {accuracy} of 120 test images (95 % interval {interval} %; 30 sources, none of them in training)."
    )


@pytest.mark.parametrize("part", ["test", "val"])
def test_the_class_table_is_scikit_learns(page, predictions, part):
    rows = predictions[predictions["split"] == part]
    precision, recall, f1, images = precision_recall_fscore_support(rows["label"], rows["prediction"], labels=CLASSES)
    (found,) = page.all("table", _class="cards classes", data_part=part)
    for place, (name, cells) in enumerate(page.cells(found).items()):
        assert name == CLASSES[place]
        others = rows[rows["label"] != name]
        specificity = {place: (others["prediction"] != name).mean()}
        assert [cell[0] for cell in cells[:4]] == [shown(one[place])[0] for one in (recall, specificity, precision, f1)]
        assert [cell[0] for cell in cells[4:]] == [str(images[place]), "10"]
        for cell in cells[:4]:
            low, high = (float(end) for end in cell[1].split(" to "))
            assert low <= float(cell[0].removesuffix(" %")) <= high


@pytest.mark.parametrize("part", ["test", "val"])
def test_the_confusion_matrix_is_scikit_learns(page, predictions, part):
    rows = predictions[predictions["split"] == part]
    counts = confusion_matrix(rows["label"], rows["prediction"], labels=CLASSES)
    (found,) = page.all("table", _class="confusion", data_part=part)
    for expected, cells in zip(counts, page.cells(found).values(), strict=True):
        assert [cell[0] for cell in cells] == [str(count) for count in expected]
        assert [cell[1] for cell in cells] == [f"{100 * count / expected.sum():.0f} %" for count in expected]


def test_the_areas_are_scikit_learns(page, predictions):
    rows = predictions[predictions["split"] == "test"]
    for kind, score in (("panels roc", roc_auc_score), ("panels precision-recall", average_precision_score)):
        (panels,) = page.all("div", _class=kind)
        for name in CLASSES:
            (figure,) = page.all("figure", inside=panels, data_class=name)
            (value,) = page.all("span", inside=figure, _class="value")
            assert value["text"] == f"{score(rows['label'] == name, rows[f'p_{name}']):.3f}"


def test_calibration_is_that_of_each_part(page, predictions):
    metrics = metrics_of(predictions)
    ece, brier = ([metrics[f"{part}/{name}"] for part in ("test", "val")] for name in ("ece", "brier"))
    assert [one["text"] for one in page.all("strong", _class="ece")] == [f"{100 * one:.1f}" for one in ece]
    chance = [ece_by_chance(rows) for _, rows in sorted(predictions.groupby("split"))]
    assert [one["text"] for one in page.all("span", _class="chance")] == [f"{100 * one:.1f}" for one in chance]
    assert [one["text"] for one in page.all("strong", _class="brier")] == [f"{one:.3f}" for one in brier]


def test_calibration_with_and_without_the_temperature_is_beside_each_part(written, predictions):
    page, _ = written(predictions, temperature=1.5, compared=8)
    table = page.cells(page.all("table", id="calibration")[0])
    assert list(table) == ["test images", "validation images (fitted to)"]
    for row, (_, rows) in zip(table.values(), predictions.groupby("split"), strict=True):
        errors = [reliability(one).ece for one in (tempered_table(rows, 1 / 1.5), rows)]
        assert row == [[f"{100 * one:.1f}"] for one in (*errors, ece_by_chance(rows))]
    assert "they also chose the epoch" in page.all("section", aria_label="warnings")[0]["text"]


def test_the_sample_size_and_the_decision_curves_are_shown(page, predictions):
    metrics = {
        name.removeprefix("test/"): one for name, one in metrics_of(predictions).items() if name.startswith("test/")
    }
    wanted = metrics["sources"] * ((metrics["accuracy_high"] - metrics["accuracy_low"]) / 0.1) ** 2
    assert f"takes about {np.ceil(wanted):.0f} sources" in page.all("p", id="size")[0]["text"]
    (panels,) = page.all("div", _class="panels decision")
    assert [one["data-class"] for one in page.all("figure", inside=panels)] == CLASSES


def test_it_says_what_promises_hold_with_together(written, predictions):
    _, text = written(predictions)
    assert "Each promise holds with 90 % probability" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "all 4 together hold with at least 60 %" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_promise_and_every_set_has_a_row(page):
    promises = page.cells(page.all("table", id="promises")[0])
    assert [re.search(r"at most (\d+) %", name, re.IGNORECASE)[1] for name in promises] == ["1", "2", "5", "10"]
    assert (
        "At most 1 % errors: cannot be promised; that takes 230 sources without an error, and there are 30" in promises
    )
    assert list(page.cells(page.all("table", id="sets")[0])) == [
        f"contains the true class in {level} %{each}" for each in ("", ", in each class") for level in (90, 95)
    ]
    by_class = page.cells(page.all("table", id="sets-by-class")[0])
    assert list(by_class) == CLASSES
    assert all(len(row) == 4 for row in by_class.values())


def test_the_page_loads_nothing_and_is_accessible(written, predictions, tmp_path):
    page, text = written(predictions, **everything(tmp_path))
    assert not re.search(r"https?:|<script|<link|<iframe|@import|url\(", text)
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title")[0]["text"]
    assert len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(one["tag"][1]) for one in page.elements if re.fullmatch(r"h\d", one["tag"])]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(one["alt"] and one["src"].startswith("data:image/") for one in page.all("img"))
    assert all(
        one.get("aria-hidden") == "true" or (one["role"] == "img" and one["aria-label"]) for one in page.all("svg")
    )
    assert all(one["scope"] in ("col", "row") for one in page.all("th"))
    for found in page.all("table"):
        assert page.all("thead", inside=found)
        assert len(page.all("th", inside=found, scope="row")) == len(page.all("tr", inside=found)) - 1
    labels = [one["aria-label"] for one in page.all("div", role="region") + page.all("section")]
    assert len(labels) == len(set(labels))
    ids = [one["id"] for one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    assert all(one["href"].removeprefix("#") in ids for one in page.all("a"))


def test_names_are_escaped(written, predictions):
    _, text = written(predictions)
    assert "a &lt;run&gt;" in text
    assert "a&lt;b&gt;" in text
    assert "a<b>" not in text


def everything(root):
    """Return all options of the report, with images in a folder."""
    (root / "test").mkdir()
    for number in range(120):
        Image.new("RGB", (8, 4), "red").save(root / "test" / f"t{number}.png")
    row = {"label": "EOS", "suggested": "LYM", "quality": 0.0123, "images": 4, "path": "test/gone.png"}
    suspect = {**row, "source": "t1", "label": "LYM", "path": "test/t4.png"}
    epochs = pd.DataFrame({"epoch": [1, 2], "train/loss": [1.5, 1.0], "train/accuracy": [0.4, 0.6]})
    return {
        "trained_on": frozenset({"v3"}),
        "root": root,
        "suspects": pd.DataFrame([suspect, *({**row, "source": f"{i}"} for i in range(24))]),
        "notes": ("mean of <5> nets",),
        "history": epochs.assign(**{"val/loss": [1.6, 1.2], "val/accuracy": [0.3, 0.5]}),
        "temperature": 1.371,
    }


def test_all_that_is_given_is_shown(written, predictions, tmp_path):
    page, text = written(predictions, **everything(tmp_path))
    assert all(base64.b64decode(one["src"].partition(",")[2]).startswith(b"\xff\xd8") for one in page.all("img"))
    errors = predictions[(predictions["split"] == "test") & (predictions["label"] != predictions["prediction"])]
    assert len(page.all("figure", _class="wrong")) == min(errors["source"].nunique(), PICTURES)
    right = [one["text"].split(" with")[0].strip() for one in page.all("figure", _class="right")]
    assert sorted(right) == sorted(f"✓ {name}" for name in [*CLASSES, *CLASSES, "LYM"])  # and a suspected label
    assert page.all("img")[-1]["alt"].startswith("Picture of LYM of the source t1, predicted ")
    assert "Validation images: 4 of 120 are of 1 sources that are in training" in text
    assert "mean of &lt;5&gt; nets" in text
    assert page.all("strong", _class="temperature")[0]["text"] == "1.37"
    suspects = page.cells(page.all("table", id="suspects")[0])
    assert len(suspects) == 20
    assert suspects["0"] == [["EOS"], ["LYM"], ["0.012"], ["4"]]
    assert [one["aria-label"] for one in page.all("svg") if "epochs" in one.get("aria-label", "")] == [
        "Loss of training and validation over 2 epochs",
        "Accuracy of training and validation over 2 epochs",
    ]


def test_the_page_has_a_title_a_date_and_the_name_of_the_data_set(written, predictions):
    page, _ = written(predictions, data="smears <1>")
    assert page.all("h1")[0]["text"] == page.all("title")[0]["text"]
    assert page.all("h1")[0]["text"] == "What this classifier of smears <1> can be trusted with"
    assert page.all("time")[0]["text"] == time.strftime("%Y-%m-%d")
    chosen, _ = written(predictions, data="smears", heading="Ward 7 & 8")
    assert chosen.all("h1")[0]["text"] == "Ward 7 & 8"
    assert "data set smears" in chosen.all("p", _class="path")[0]["text"]


def test_the_contents_link_to_every_section(written, predictions, tmp_path):
    page, _ = written(predictions, **everything(tmp_path))
    (nav,) = page.all("nav")
    assert [one["href"] for one in page.all("a", inside=nav)] == [f"#{one['id']}" for one in page.all("h2")]


def test_each_class_has_a_sentence_on_its_sources(page, predictions):
    (found,) = page.all("ul", id="sizes")
    scores = scores_by_class(predictions[predictions["split"] == "test"], CLASSES)
    for name, sentence, one in zip(CLASSES, page.all("li", inside=found), scores, strict=True):
        needed = sources_needed(one, RELIABLE)
        number = f"about {np.ceil(needed):,.0f} sources" if needed < np.inf else "more sources alone are not enough"
        assert sentence["text"].startswith(f"{name}: ")
        assert number in sentence["text"]
        assert "there are 10." in sentence["text"]


def test_patients_have_a_row_each_and_cells_have_not(written, page, predictions):
    assert not page.all("table", id="by-group")
    rows = predictions[predictions["split"] == "test"]
    groups, _ = written(rows.assign(source=[f"patient {number % 7}" for number in range(len(rows))]))
    table = groups.cells(groups.all("table", id="by-group")[0])
    assert sorted(table) == [f"patient {number}" for number in range(7)]
    one = rows.iloc[2::7]
    right = (one["label"] == one["prediction"]).mean()
    assert table["patient 2"][:3] == [[f"{len(one)}"], ["3"], [f"{100 * right:.1f} %"]]


def test_what_is_not_given_is_not_shown(page):
    assert not page.all("h2", id="labels") + page.all("h2", id="history") + page.all("strong", _class="temperature")


def test_sources_that_fail_as_a_whole_are_listed(written, predictions):
    wrong = predictions["source"].isin(["t1", "t4"])
    p = np.where(wrong, 0.0, predictions["p_LYM"])  # both are lymphocytes
    page, _ = written(predictions.assign(p_LYM=p, prediction=predictions["prediction"].mask(wrong, "EOS")))
    rows = page.cells(page.all("table", id="failing")[0])
    assert {"t1", "t4"} <= set(rows)
    assert rows["t1"][:3] == [["LYM"], ["EOS"], ["4"]]


def test_a_source_that_is_right_under_another_label_does_not_fail_as_a_whole(written, predictions):
    rows = predictions[predictions["source"].isin(["t1", "t2"])].assign(label="EOS", prediction="EOS")
    rows.iloc[:2, rows.columns.get_loc("label")] = "LYM"
    rows.iloc[4:, rows.columns.get_loc("label")] = "LYM"
    page, text = written(rows)
    assert list(page.cells(page.all("table", id="failing")[0])) == ["t2"]
    assert "Of 2 sources, 1 has only images that are wrong" in text


def test_test_images_of_unseen_sources_are_what_the_verdict_is_of(written, predictions):
    page, text = written(predictions, trained_on=frozenset({"t0", "t1"}))
    assert "of 112 test images of unseen sources" in page.all("p")[1]["text"]
    unseen = predictions[(predictions["split"] == "test") & ~predictions["source"].isin(["t0", "t1"])]
    cells = page.cells(page.all("table", id="overview")[0])["test images of unseen sources"]
    assert cells[2][0] == shown((unseen["label"] == unseen["prediction"]).mean())[0]
    assert "Test images: 8 of 120 are of 2 sources that are in training" in text


def test_without_sources_no_interval_is_claimed(written, predictions):
    page, text = written(predictions.assign(source=""))
    assert "sources are unknown" in page.all("p")[1]["text"]
    assert "the source of 120 of 120 is unknown" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert not page.all("span", _class="interval")
    assert not page.all("ul", _class="trust")
    assert "If no image is a copy of another" in page.all("p")[4]["text"]
    assert "As sources are unknown, all images weigh the same" in text


def test_one_source_and_one_class_still_make_a_page(written):
    rows = table("test", sources=3).iloc[:4]
    page, text = written(rows)
    assert "There is a single source" in text
    assert "There is no image of LYM, a&lt;b&gt;" in text
    assert not page.all("div", _class="panels roc")


def test_several_data_sets_are_in_the_overview_each(written, predictions):
    sets = predictions.assign(set=np.where(predictions.index % 8 < 4, "one", "two"))
    page, _ = written(sets)
    rows = page.cells(page.all("table", id="overview")[0])
    assert list(rows) == [f"{part} images{of}" for part in ("validation", "test") for of in ("", " of one", " of two")]


def test_names_and_order_of_parts():
    assert name_of("test_simple_disjoint") == "simple test images of unseen sources"
    assert name_of("val[mine]") == "validation images of mine"
    assert shown_parts(["val", "val[a]", "test", "test_disjoint", "test_simple"]) == [
        "test_disjoint",
        "test_simple",
        "val",
    ]


def test_the_same_predictions_make_the_same_page(written, predictions):
    assert written(predictions)[1] == written(predictions)[1]
