"""The page as a reader has it: in a real browser, wide and narrow, light and dark, by mouse and by keyboard.

Wants Chromium on the path (or BLOODCELL_CHROMIUM) and the packages playwright and axe-playwright-python.
"""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.app.chromium import CHROMIUM, chromium, violations

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is there")]
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 360)]


@pytest.fixture(scope="module")
def browser():
    """Start a browser."""
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser, seeing):
    """Open the page: opened(scheme, width) -> a tab. Whatever it asks for and complains of is checked at the end."""
    contexts, asked, complaints = [], [], []

    def open_page(scheme="light", width=1280, page=seeing, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append((request.url, page.address)))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.goto(page.address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert asked
    assert not [
        url for url, address in asked if not url.startswith((address + "/", "data:image/jpeg", "blob:" + address))
    ]
    shown = ("status of 422", "net::ERR_FAILED")  # a bad file, and a server that is gone: the page says so
    assert not [text for text in complaints if not any(one in text for one in shown)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, smears):
    """Return 20 files: 16 smears, three pictures without a cell, of odd shapes and names, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    files = []
    for number, path in enumerate(smears.table["path"][:16]):
        files.append(folder / f"smear {number:02}.jpeg")
        shutil.copy(smears.root / path, files[-1])
    for name, size in (
        ("no cell.png", (90, 60)),
        ("tall, with <b>odd name & a=b.png", (20, 300)),
        ("wide.tif", (400, 9)),
    ):
        files.append(folder / name)
        Image.new("RGB", size, (225, 200, 205)).save(files[-1])
    files.append(folder / f"bad_{'and_long' * 12}.jpg")
    files[-1].write_text("no picture")
    return files


def upload(tab, *files):
    """Choose files, and wait until all are done."""
    from playwright.sync_api import expect

    tab.set_input_files("#files", [str(file) for file in files])
    expect(tab.locator("#status")).to_contain_text(re.compile(rf"^{len(files)} images? done"), timeout=60_000)


def test_one_image_and_its_verdict(opened, seeing, pictures):
    tab = opened()
    upload(tab, pictures[0])
    _, answer = seeing.examine(pictures[0].read_bytes(), pictures[0].name)
    card = tab.locator("article")
    assert card.count() == 1
    assert card.locator("h3").inner_text() == "smear 00.jpeg"
    assert card.locator(".best strong").inner_text() == answer["prediction"]
    assert card.locator(".flag").inner_text() == "Not sure: ask a human."  # the small net always is
    shown = card.locator(".chances li").all_inner_texts()
    assert [re.sub(r"\s+", " ", text).strip() for text in shown] == [
        f"{name} {100 * share:.1f} %" for name, share in zip(seeing_classes(tab), answer["probabilities"], strict=True)
    ]
    image = card.locator("img")
    assert image.get_attribute("alt") == "smear 00.jpeg, with the square around the cell"
    assert image.evaluate("(one) => one.complete && one.naturalWidth") == 480
    drawn, box = card.locator("rect").last.bounding_box(), image.bounding_box()
    scale = box["width"] / answer["size"][0]
    left, top, side = answer["square"]
    assert abs(drawn["x"] - box["x"] - scale * left) < 3
    assert abs(drawn["y"] - box["y"] - scale * top) < 3
    assert abs(drawn["width"] - scale * side) < 3


def seeing_classes(tab):
    return tab.evaluate("JSON.parse(document.body.dataset.classes)")


def test_where_it_looked_can_be_seen_and_hidden(opened, seeing, pictures):
    tab = opened()
    upload(tab, pictures[0])
    _, answer = seeing.examine(pictures[0].read_bytes())
    button, image, key = tab.locator(".look"), tab.locator("article img"), tab.locator(".key")
    assert button.get_attribute("aria-pressed") == "false"
    assert not key.is_visible()
    for pressed, source in (("true", answer["looked"]), ("false", answer["picture"])):
        button.press("Enter")
        assert button.get_attribute("aria-pressed") == pressed
        assert image.get_attribute("src") == source
        assert key.is_visible() == (pressed == "true")
        assert ("Grad-CAM" in image.get_attribute("alt")) == (pressed == "true")


def test_a_bad_file_is_shown_with_its_reason(opened, pictures):
    tab = opened()
    upload(tab, pictures[-1])
    assert tab.locator("article .flag").inner_text() == "Cannot be read: not an image."
    assert tab.locator("article img").count() == 0
    assert tab.locator("#download").is_disabled()
    assert "1 unreadable" in tab.locator("#status").inner_text()


def test_a_file_beyond_the_limit_is_not_even_sent(opened, start, tmp_path):
    small = start("max_megabytes=0.001")
    (tmp_path / "large.png").write_bytes(bytes(1001))
    tab = opened(page=small)
    sent = []
    tab.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    upload(tab, tmp_path / "large.png")
    assert tab.locator("article .flag").inner_text() == "Cannot be read: larger than 0.001 MB, the limit."
    assert not sent


def test_no_cell_is_said_not_to_look_like_one(opened, pictures):
    tab = opened()
    upload(tab, pictures[16])
    words = "This does not look like a stained white cell: none was found."
    assert tab.locator("article .flag").inner_text() == words
    assert "So the net looked at the whole image." in tab.locator("article .note").inner_text()


def test_sure_unsure_and_unlike(opened, start, limited, pictures, seeing_run):
    for abstain, threshold, words in (
        (0, 2.0, None),
        (1, 2.0, "Not sure: ask a human."),
        (0, 0.5, "This does not look like a stained white cell of a kind that the classifier knows."),
    ):
        tab = opened(page=start(f"abstain_below={abstain}", run=seeing_run, change=limited(threshold)))
        upload(tab, pictures[0])
        assert tab.locator("article .flag").is_visible() == (words is not None)
        if words:
            assert tab.locator("article .flag").inner_text() == words


def test_twenty_at_once_are_counted_listed_and_downloaded(opened, seeing, pictures, tmp_path):
    tab = opened(accept_downloads=True)
    upload(tab, *pictures)
    names = [file.name for file in pictures]
    assert tab.locator("article h3").all_inner_texts() == names  # in their order, whatever the answers' was
    assert [text.strip() for text in tab.locator("#rows th").all_inner_texts()] == names
    counts = {item.split("\n")[1]: int(item.split("\n")[0]) for item in tab.locator("#summary li").all_inner_texts()}
    assert sum(counts.values()) == 20
    assert counts["unreadable"] == 1
    assert counts["not like a stained white cell"] == 3
    with tab.expect_download() as waited:
        tab.locator("#download").click()
    waited.value.save_as(tmp_path / "predictions.csv")
    assert waited.value.suggested_filename == "predictions.csv"
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert list(table["path"]) == names[:-1]
    columns = [name for name in table if name.startswith("p_")]
    for file, row in zip(pictures, table[columns].to_numpy(float), strict=False):
        np.testing.assert_allclose(row, seeing.examine(file.read_bytes())[1]["probabilities"], rtol=1e-5)


def test_all_can_be_done_by_keyboard(opened, pictures):
    tab = opened()
    tab.on("filechooser", lambda chooser: chooser.set_files(str(pictures[0])))
    reached = []
    for _ in range(2):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["SUMMARY", "files"]
    outline = tab.locator("#drop label").evaluate("(one) => getComputedStyle(one).outlineStyle")
    assert outline == "solid"  # the hidden input has the focus, and its label shows it
    tab.keyboard.press("Enter")
    tab.locator("article").wait_for()
    for wanted in ("download", "clear"):
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == wanted
    tab.keyboard.press("Enter")
    assert not tab.locator("#results").is_visible()
    assert tab.locator("article").count() == 0
    assert tab.evaluate("document.activeElement.id") == "files"
    assert tab.locator("#status").inner_text() == "All images are cleared."


def test_cleared_while_images_are_on_their_way(opened, pictures):
    tab = opened()
    tab.set_input_files("#files", [str(file) for file in pictures])
    tab.locator("#clear").click()
    upload(tab, pictures[3])
    assert tab.locator("article h3").all_inner_texts() == [pictures[3].name]
    tab.set_input_files("#files", [str(file) for file in pictures[4:6]])
    tab.get_by_text("3 images done").wait_for()  # the second may come before the first
    assert tab.locator("article").count() == 3


def test_dropped_files_are_taken_wherever_they_fall(opened, pictures):
    tab = opened()
    content = list(pictures[0].read_bytes())
    drop = """(content) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(content)], "dropped.jpeg"));
        const at = document.querySelector("h1");
        for (const type of ["dragover", "drop"])
            at.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data})); }"""
    tab.evaluate(drop, content)
    tab.locator("article").wait_for()
    assert tab.locator("article h3").inner_text() == "dropped.jpeg"
    assert "over" not in (tab.locator("#drop").get_attribute("class") or "")


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_it_is_accessible_and_fits_the_screen(opened, pictures, scheme, width, tmp_path):
    tab = opened(scheme, width, bypass_csp=True, reduced_motion="reduce")  # axe-core is put into the page
    assert violations(tab) == []
    tab.locator("summary").click()
    upload(tab, *pictures)
    tab.locator(".look").first.click()
    assert violations(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#results h2:visible").all_inner_texts() == ["Summary", "Images", "Table"]
    tab.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)  # for whoever wants to look


def test_the_accessibility_check_finds_what_is_wrong(opened):
    tab = opened(bypass_csp=True)
    tab.evaluate("document.querySelector('label').remove()")
    assert [rule for rule, _ in violations(tab)] == ["label"]


def test_a_server_that_is_gone_is_said_to_be(opened, pictures):
    tab = opened()
    tab.route("**/examine*", lambda route: route.abort())
    tab.set_input_files("#files", str(pictures[0]))
    tab.locator("article").wait_for()
    assert "bloodcell app has ended" in tab.locator("article .flag").inner_text()


@pytest.fixture(scope="module")
def counting(start, seeing_run):
    """A page whose answers are all sure, so that every cell of a field counts."""
    return start("abstain_below=0", run=seeing_run)


def lit(tab):
    """Return the numbers of the boxes that are lit, and of the options that are selected."""
    boxes = tab.locator(".label.chosen text").all_text_contents()
    return boxes, tab.locator("[role=option][aria-selected=true] .chip").all_inner_texts()


def test_a_field_of_twelve_by_keyboard_and_by_mouse(opened, counting, twelve):
    tab = opened(page=counting)
    upload(tab, twelve)
    _, answer = counting.examine(twelve.read_bytes())
    cells = answer["cells"]
    assert tab.locator("#status").inner_text() == "1 image done; 1 field with 12 cells"
    picture = tab.locator(".field img").bounding_box()
    scale = picture["width"] / answer["size"][0]
    drawn = [one.bounding_box() for one in tab.locator(".cell rect:last-child").all()]
    assert len(drawn) == tab.locator("[role=option]").count() == 12
    for box, cell in zip(drawn, cells, strict=True):
        assert abs(box["x"] - picture["x"] - scale * cell["box"][0]) < 4
        assert abs(box["y"] - picture["y"] - scale * cell["box"][1]) < 4
    labels = [one.bounding_box() for one in tab.locator(".label rect").all()]
    for place, one in enumerate(labels):  # no number hides another
        for other in labels[:place]:
            apart = max(abs(one["x"] - other["x"]) - one["width"], abs(one["y"] - other["y"]) - one["height"])
            assert apart > -2
    names = [
        f"cell {one['number']} of 12: {one['prediction']}, {100 * one['confidence']:.1f}\N{NO-BREAK SPACE}%"
        for one in cells
    ]
    assert tab.get_by_role("listbox", name="cells of field of twelve.png").count() == 1
    for name in names:
        assert tab.get_by_role("option", name=name, exact=True).count() == 1
    assert lit(tab) == ([], [])
    tab.locator("#clear").focus()
    for _ in range(2):  # over the table of the count
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('role')") == "listbox"
    for key, number in (("Enter", "1"), ("ArrowDown", "2"), ("End", "12"), ("ArrowDown", "12"), ("ArrowUp", "11")):
        tab.keyboard.press(key)
        assert lit(tab) == ([number], [number])
        active = tab.evaluate("document.activeElement.getAttribute('aria-activedescendant')")
        assert tab.locator(f"#{active}").get_attribute("aria-label") == names[int(number) - 1]
        assert tab.locator(".detail h4").inner_text() == names[int(number) - 1].replace("cell", "Cell")
    tab.keyboard.press("Escape")
    assert lit(tab) == ([], [])
    tab.locator(".cell").nth(4).click()
    assert lit(tab) == (["5"], ["5"])
    tab.keyboard.press("ArrowDown")
    assert lit(tab) == (["6"], ["6"])
    tab.locator("[role=option]").nth(2).click()
    assert lit(tab) == (["3"], ["3"])


def test_the_count_of_all_fields_grows_with_each(opened, counting, twelve, pictures, tmp_path):
    from playwright.sync_api import expect

    tab = opened(page=counting, accept_downloads=True)
    upload(tab, twelve)
    status = tab.locator("#count-status")
    assert status.get_attribute("role") == "status"
    expect(status).to_contain_text("12 of 12 cells in 1 field counted")
    with Image.open(twelve) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    tab.set_input_files("#files", [str(one) for one in (tmp_path / "mirrored.png", twelve, pictures[0])])
    expect(tab.locator("#status")).to_contain_text("4 images done; 3 fields with", timeout=60_000)
    cells = counting.examine((tmp_path / "mirrored.png").read_bytes())[1]["cells"]
    left_out = sum(one["left_out"] != "" for one in cells)
    expect(status).to_contain_text(f"{12 + len(cells) - left_out} of {12 + len(cells)} cells in 2 fields counted")
    notes = tab.locator("#count-notes")  # of the last count, which a slow machine still makes
    expect(notes).to_contain_text("1 picture of one cell or none is not counted")
    expect(notes).to_contain_text("1 field dropped more than once counts once")
    rows = [row.split("\t") for row in tab.locator("#count-rows").inner_text().split("\n") if row]
    assert [name.strip() for name, *_ in rows] == seeing_classes(tab)
    assert sum(int(count) for _, count, *_ in rows) == 12 + len(cells) - left_out
    assert tab.locator(".whisker svg").count() == len(rows)
    with tab.expect_download() as waited:
        tab.locator("#download-cells").click()
    waited.value.save_as(tmp_path / "cells.csv")
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table.groupby("path")["number"].max().to_dict() == {twelve.name: 12, "mirrored.png": len(cells)}


def test_a_file_of_several_pictures_says_that_one_is_read(opened, counting, twelve, tmp_path):
    with Image.open(twelve) as picture:
        picture.save(tmp_path / "a.tif", save_all=True, append_images=[picture, picture])
    tab = opened(page=counting)
    upload(tab, tmp_path / "a.tif")
    assert tab.locator("article .note").inner_text().startswith("Only the first of its 3 pictures is read.")


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_a_field_is_accessible_and_fits_the_screen(opened, counting, twelve, pictures, scheme, width, tmp_path):
    tab = opened(scheme, width, counting, bypass_csp=True, reduced_motion="reduce")
    upload(tab, twelve, pictures[0])
    tab.locator("#count-rows tr").first.wait_for()
    assert violations(tab) == []
    tab.locator("[role=listbox]").press("ArrowDown")
    assert violations(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
