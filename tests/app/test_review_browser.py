"""The page of a folder as a reader has it: 300 painted cells, by keyboard, through a kill, to a new classifier."""

import json
import re
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from bloodcell.app.server import bound
from bloodcell.data.corrections import read_corrections
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from tests.app.chromium import CHROMIUM, chromium, violations

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is there")]
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


@pytest.fixture(scope="module")
def browser():
    """Start a browser."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Paint 300 cells on three slides; their names do not tell their classes, which are returned by path."""
    folder, rng, labels = tmp_path_factory.mktemp("review"), np.random.default_rng(5), {}
    for number in range(300):
        label, slide = str(rng.choice(CLASSES)), f"slide {number % 3 + 1}"
        (folder / slide).mkdir(exist_ok=True)
        Image.fromarray(paint_photograph(label, rng)[0]).save(folder / slide / f"{number:03}.jpeg")
        labels[f"{slide}/{number:03}.jpeg"] = label
    return folder, labels


class Served:
    """A page that is served by a process of its own, which may be killed and started again on the same port."""

    def __init__(self, *words, cwd):
        with bound("127.0.0.1", 0) as listening:
            self.port = listening.getsockname()[1]
        self.line = [sys.executable, "-m", "bloodcell", "app", *words, f"port={self.port}", "device=cpu"]
        self.cwd, self.address = cwd, f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.line, cwd=self.cwd, stdout=subprocess.PIPE, text=True)
        assert any(line.startswith("the page is at") for line in self.process.stdout)

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def served(tmp_path):
    """Serve a page by a process: served(words) -> Served."""
    running = []

    def serve(*words):
        running.append(Served(*words, cwd=tmp_path))
        return running[-1]

    yield serve
    for one in running:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


@pytest.fixture
def opened(browser):
    """Open a page: opened(address, scheme, width) -> a tab. What it complains of and asks elsewhere fails the test."""
    contexts, asked, complaints = [], [], []

    def open_page(address, scheme="light", width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append((request.url, address)))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.goto(address)
        tab.locator(".tile").first.wait_for(timeout=120_000)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not [url for url, address in asked if not url.startswith(address)]
    shown = ("net::ERR", "status of 503", "status of 404")  # a server that is gone, and a net without a Grad-CAM
    assert not [text for text in complaints if not any(one in text for one in shown)]


def kept(tab):
    from playwright.sync_api import expect

    expect(tab.locator("#said")).to_contain_text("Kept.", timeout=30_000)


def label_current(tab, labels):
    """Label the current cell by its key, and wait until it is kept."""
    path = tab.locator("#picked").inner_text()
    tab.locator("#said").evaluate("(one) => { one.textContent = ''; }")
    tab.keyboard.press(str(CLASSES.index(labels[path]) + 1))
    kept(tab)
    return path


@pytest.mark.timeout(900)
def test_from_a_folder_to_a_classifier_that_learnt(opened, served, learnt_run, painted, tmp_path):
    from playwright.sync_api import expect

    folder, labels = painted
    file = tmp_path / "corrections.csv"
    server = served(f"checkpoint={learnt_run}", f"images={folder}", f"corrections={file}", "reviewer=Ada", "cells=one")
    tab = opened(server.address, accept_downloads=True)
    expect(tab.locator("#counts")).to_have_text("300 cells shown of 300; 0 with your label")
    assert tab.locator(".tile").count() < 120  # only those that are seen, and some rows beyond
    reach(tab, "grid")
    tab.keyboard.press("n")
    expect(tab.locator("#counts")).to_contain_text("25 cells shown of 300")
    done = [label_current(tab, labels) for _ in range(20)]
    assert len(set(done)) == 20
    assert [(one.path, one.label) for one in read_corrections(file).decisions] == [
        (path, labels[path]) for path in done
    ]

    tab.keyboard.press("u")
    expect(tab.locator("#counts")).to_contain_text("19 with your label")
    assert read_corrections(file).decisions[-1].label == ""
    tab.keyboard.press("ArrowLeft")
    done[-1] = label_current(tab, labels)
    tab.reload()
    expect(tab.locator("#counts")).to_contain_text("20 with your label")

    server.end()
    reach(tab, "grid")
    tab.locator("#show").select_option("open")
    tab.locator("#grid").focus()
    path = tab.locator("#picked").inner_text()
    tab.keyboard.press(str(CLASSES.index(labels[path]) + 1))
    expect(tab.locator("#said")).to_contain_text("Not kept yet")
    server.start()
    kept(tab)
    last = read_corrections(file).decisions[-1]
    assert (last.path, last.label, last.who) == (path, labels[path], "Ada")

    for _ in range(12):  # so that each class has some
        label_current(tab, labels)
    expect(tab.locator("#share-status")).to_contain_text("by your labels")
    before = digest_of(server)
    reach(tab, "learn")
    tab.keyboard.press("Enter")
    expect(tab.locator("#learn-status")).to_contain_text("Learning: ", timeout=30_000)
    assert not violations(tab)
    tab.keyboard.press("Escape")
    expect(tab.locator("#learn-status")).to_contain_text("The adaptation is cancelled.", timeout=60_000)
    assert not list((tmp_path / "outputs" / "adapt").iterdir())
    reach(tab, "learn")
    tab.keyboard.press("Enter")
    expect(tab.locator("#outcome")).to_be_visible(timeout=600_000)
    assert not violations(tab)
    values = [
        float(text.strip("\N{NO-BREAK SPACE}%"))
        for text in tab.locator("#outcome-rows td:nth-of-type(1)").all_inner_texts()
    ]
    (run,) = (tmp_path / "outputs" / "adapt").glob("*/adaptation.json")
    outcome = json.loads(run.read_text())
    assert values == [round(100 * outcome[name]["value"], 1) for name in ("before", "after")]
    expect(tab.locator("#accept")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("#learn-status")).to_contain_text("judged anew")
    deadline = time.monotonic() + 120
    while digest_of(server) == before:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    expect(tab.locator("#counts")).to_contain_text("33 with your label", timeout=30_000)

    with tab.expect_download() as waited:
        tab.locator("a[download]").click()
    waited.value.save_as(tmp_path / "downloaded.csv")
    assert (tmp_path / "downloaded.csv").read_bytes() == file.read_bytes()


def digest_of(server):
    with urlopen(f"{server.address}review/state") as answer:
        return json.load(answer)["digest"]


def reach(tab, name):
    """Go to an element by the Tab key alone."""
    for _ in range(60):
        if tab.evaluate("document.activeElement.id") == name:
            return
        tab.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


@pytest.fixture(scope="module")
def folder_page(start, seeing_run, painted, tmp_path_factory):
    """The page of the painted cells, by a net that has a Grad-CAM."""
    file = tmp_path_factory.mktemp("corrections") / "c.csv"
    return start(f"images={painted[0]}", f"corrections={file}", "cells=one", run=seeing_run)


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_no_state_has_a_fault_that_axe_finds(opened, folder_page, scheme, width):
    from playwright.sync_api import expect

    tab = opened(f"{folder_page.address}/", scheme, width)
    assert not violations(tab)
    tab.locator("#grid").focus()
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("2")
    kept(tab)
    expect(tab.locator("#share-status")).not_to_be_empty()
    assert not violations(tab)
    tab.keyboard.press("Enter")
    expect(tab.locator("#closely .best")).not_to_be_empty()
    expect(tab.locator("#closely .near img").first).to_be_visible(timeout=60_000)
    assert not violations(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing is wider than the screen
    tab.keyboard.press("Escape")
    expect(tab.locator("#closely")).not_to_be_visible()
    expect(tab.locator("#grid")).to_be_focused()


def test_several_at_once_search_filter_and_order(opened, folder_page):
    from playwright.sync_api import expect

    tab = opened(f"{folder_page.address}/")
    tab.locator("#search").fill("slide 2/")
    expect(tab.locator("#counts")).to_contain_text("100 cells shown of 300")
    tab.locator("#search").fill("")
    tab.locator("#slide").select_option(label="slide 3")
    tab.locator("#sort").select_option("slide")
    tab.locator("#grid").focus()
    assert tab.locator("#picked").inner_text() == "slide 3/002.jpeg"
    tab.keyboard.press("Shift+End")
    expect(tab.locator("#picked")).to_have_text("100 cells chosen")
    tab.keyboard.press("3")
    kept(tab)
    tab.locator("#show").select_option("labelled")
    expect(tab.locator("#counts")).to_contain_text("100 cells shown")
    tab.locator("#grid").focus()
    tab.keyboard.press("u")
    expect(tab.locator("#said")).to_have_text("Undone.")


def test_two_tabs_see_the_labels_of_one_another(opened, folder_page):
    one, other = (opened(f"{folder_page.address}/") for _ in range(2))
    one.locator("#search").fill("slide 1/150")
    other.locator("#search").fill("slide 1/150")
    one.locator("#grid").focus()
    one.keyboard.press("4")
    kept(one)
    other.locator(".tile .said.label").wait_for()
    assert re.search(CLASSES[3], other.locator(".tile").get_attribute("aria-label"))
    one.keyboard.press("u")
    other.locator(".tile .said.label").wait_for(state="detached")


def test_a_blind_reader_sees_no_answer(opened, start, seeing_run, painted, tmp_path):
    page = start(f"images={painted[0]}", f"corrections={tmp_path / 'c.csv'}", "cells=one", "blind=true", run=seeing_run)
    tab = opened(f"{page.address}/")
    assert not violations(tab)
    tab.locator("#grid").focus()
    assert tab.locator(".tile .share").count() == 0
    tab.keyboard.press("1")
    kept(tab)
    tab.keyboard.press("Enter")
    tab.locator("#closely .part").wait_for()
    assert tab.locator("#closely .chances").count() == 0
    assert not violations(tab)
    assert (tmp_path / "c.csv").stat().st_size
