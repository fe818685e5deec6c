"""Make docs/pictures from painted smears: a leak, the report and the page, as headless Chromium shows them.

Wants Chromium on the path (or BLOODCELL_CHROMIUM) and the package playwright. `make pictures` runs it in some minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import bloodcell

FOLDER = Path(__file__).parent / "pictures"
#: Width of the files, and of the page in the browser, in pixels: letters are drawn larger, so that they stay sharp.
WIDTH, PAGE_WIDTH = 1200, 800
#: Largest file in bytes.
MOST = 240_000
#: Colours of the palette, and white above and below, in pixels of the page.
COLOURS, EDGE = 256, 12

SMEARS = {
    "data": "synthetic",
    "data.reader.train_photographs": 96,
    "data.reader.test_photographs": 48,
    "data.reader.copies": 2,
    "data.originals": "none",
}
TRAINING = {
    "experiment": "demo",
    "data.crop": "cell",
    "data.crop_size": 1.5,
    "data.image_size": 96,
    "data.val_fraction": 0.25,
    "trainer.max_epochs": 12,
    "callbacks": "to_the_end",
    "evaluate.figures": False,
    "report": True,
    "report_title": "Painted smears",
}


def save(name: str, page: Page, first: str, last: str) -> None:
    """Write the part of a page from one element to another, as a PNG with a palette.

    Raises:
        SystemExit: The file is too large for a README.
    """
    top, end = (page.locator(one).first.bounding_box() for one in (first, last))
    assert top
    assert end
    start = max(0, top["y"] - EDGE)
    height = end["y"] + end["height"] + EDGE - start
    shot = page.screenshot(full_page=True, clip={"x": 0, "y": start, "width": PAGE_WIDTH, "height": height})
    file = FOLDER / f"{name}.png"
    picture = Image.open(BytesIO(shot)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    if file.stat().st_size >= MOST:
        raise SystemExit(f"error: {file} has {file.stat().st_size:,} bytes, the limit is {MOST:,}")


def opened(browser: Browser, address: str) -> Page:
    """Open a page, light, and as wide as the pictures."""
    page = browser.new_page(
        viewport={"width": PAGE_WIDTH, "height": 800}, device_scale_factor=WIDTH / PAGE_WIDTH, color_scheme="light"
    )
    page.goto(address)
    # a path of a folder that is gone when the picture is seen
    page.evaluate("document.querySelectorAll('.path').forEach(one => one.remove())")
    return page


def draw_page(browser: Browser, address: str, images: list[Path]) -> None:
    """Write page.png: some images and what the page says of them."""
    page = opened(browser, address)
    page.set_input_files("#files", list(images))
    page.get_by_text(f"{len(images)} images done").wait_for()
    page.wait_for_function("[...document.images].every(one => one.complete)")
    save("page", page, "#results", "#cards")


@contextmanager
def served(run: Path) -> Iterator[str]:
    """Serve the page of a run: its address."""
    command = [sys.executable, "-m", "bloodcell", "app", str(run), "port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


def shown(predictions: pd.DataFrame) -> list[str]:
    """Return the paths of two images of the test part: a sure one, and one that a human should look at."""
    test = predictions[predictions["split"] == "test"]
    confidence = test.filter(regex="^p_").max(axis=1)
    return [test["path"].iloc[(confidence - wanted).abs().argmin()] for wanted in (0.98, 0.65)]


def chromium() -> str:
    """Return the path of the browser.

    Raises:
        SystemExit: There is none.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("BLOODCELL_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise SystemExit("error: no Chromium is on the path; install it, or give BLOODCELL_CHROMIUM=FILE")
    return found


def main(work: Path) -> None:
    """Audit and train in a folder, and draw its pages."""
    own: dict[str, Any] = {**SMEARS, "data.root": work / "smears", "outputs": work / "outputs"}
    audit = bloodcell.audit(**own)
    run = bloodcell.train(**own, **TRAINING)
    images = [work / "smears" / path for path in shown(run.predictions)]
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as driver, served(run.folder) as address:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        assert audit.report
        assert run.report
        save("leak", opened(browser, audit.report.as_uri()), "figure", "figure")
        save("report", opened(browser, run.report.as_uri()), "h1", "#overview")
        draw_page(browser, address, images)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        os.environ["BLOODCELL_CACHE"] = str(Path(made) / "cache")
        main(Path(made))
