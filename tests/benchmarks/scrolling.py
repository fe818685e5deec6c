"""How long the grid of a folder's page shows no picture as it scrolls through 20,000 cells, and its server's memory.

    python -m tests.benchmarks.scrolling READER FOLDER [--cells 20000] [--width 1280]

The pictures in FOLDER, of one cell each, are judged, and stand for all the cells: their answers are kept again under
other names. Then the page is opened in Chromium, scrolled by Page Down and by the wheel, sent to the end at once, put
into another order, and dragged from end to end. Prints for each the longest time for which a visible cell was without
its picture.
"""

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

from bloodcell.evaluation.reviews.cell_store import JudgedCell
from bloodcell.evaluation.reviews.folder_cells import Reader, folder_of, judged_cells
from bloodcell.inference.loader import load_engines
from bloodcell.runtime.config import cache_root
from tests.app.chromium import chromium
from tests.app.folder_server import FolderServer

#: Watches each frame: a visible cell without its picture, or a line of cells that is not there yet.
WATCH = """
() => {
  const frame = document.getElementById("grid"), since = new Map();
  window.blank = { tile: 0, all: 0, frames: 0 };
  let none = null;
  const watch = (now) => {
    const seen = frame.getBoundingClientRect(), missing = new Set();
    let shown = 0;
    for (const x of [0.1, 0.5, 0.8]) for (let y = seen.top + 20; y < seen.bottom - 20; y += 40) {
      const at = document.elementFromPoint(seen.left + x * seen.width, y), tile = at?.closest(".tile");
      const image = tile?.querySelector("img");
      if (image?.complete && image.naturalWidth) shown += 1;
      else missing.add(tile ? tile.dataset.place : at?.closest(".line") ? "" : `gap ${Math.round(y)}`);
    }
    missing.delete("");
    for (const one of since.keys()) if (!missing.has(one)) since.delete(one);
    for (const one of missing) {
      if (!since.has(one)) since.set(one, now);
      window.blank.tile = Math.max(window.blank.tile, now - since.get(one));
    }
    none = shown ? null : none ?? now;
    if (none !== null) window.blank.all = Math.max(window.blank.all, now - none);
    window.blank.frames += 1;
    window.settled = !missing.size;
    requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);
}"""
DRAG = """
async () => {
  const frame = document.getElementById("grid"), end = frame.scrollHeight, began = performance.now();
  for (let share = 0; share < 1; ) {
    share = Math.min(1, (performance.now() - began) / 10000);
    frame.scrollTop = share * end;
    await new Promise(requestAnimationFrame);
  }
}"""


def filled(reader, folder, files):
    """Judge the distinct pictures of a folder, and keep their answers under all its names; see `files`."""
    distinct = list(dict.fromkeys(files.values()))
    stamps = folder.stamps()
    found = {}
    groups = [distinct[start : start + 32] for start in range(0, len(distinct), 32)]
    for group in reader.ensemble.predict(iter(groups), len(distinct)):
        found |= {one.path: one for one in judged_cells(group, reader.classes, reader.threshold)}
    names = list(folder.files)
    for start in range(0, len(names), 1000):
        some = names[start : start + 1000]
        cells = [(path, found[files[path]]) for path in some]
        kept = (JudgedCell(path, one.place, one.probabilities, one.features, one.jpeg) for path, one in cells)
        reader.store.add([(path, stamps[path], "") for path in some], kept)


def linked(source, folder, count):
    """Link the pictures of a folder under many names; return the source of each name."""
    pictures = sorted(path for path in Path(source).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = {}
    for number in range(count):
        file = pictures[number % len(pictures)]
        place = Path(folder) / f"slide {number // 500:02}" / f"{number:05}{file.suffix}"
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(file.absolute())
        files[place.relative_to(folder).as_posix()] = str(file)
    return files


def wait_settled(tab):
    """Wait until each visible cell has its picture; the policy of the page forbids Playwright to wait inside it."""
    while not tab.evaluate("window.settled === true"):
        time.sleep(0.01)


def measured(tab, name, move):
    """Print the longest time without pictures as a function moves the grid."""
    tab.evaluate("() => { Object.assign(window.blank, { tile: 0, all: 0, frames: 0 }); }")
    started = time.monotonic()
    move()
    took = time.monotonic() - started
    wait_settled(tab)
    tile, every, frames = (tab.evaluate(f"window.blank.{one}") for one in ("tile", "all", "frames"))
    rate = frames / took
    print(f"{name}: a cell is blank {tile:.0f} ms at most, all cells {every:.0f} ms ({rate:.0f} frames/s)", flush=True)
    return tile


def scrolled(tab):
    """Scroll in each way."""

    def pressed():
        for _ in range(60):
            tab.keyboard.press("PageDown")
            tab.wait_for_timeout(150)

    def wheeled():
        tab.locator("#grid").hover()
        for _ in range(200):
            tab.mouse.wheel(0, 240)
            tab.wait_for_timeout(40)

    tab.locator("#grid").focus()
    measured(tab, "60 pages by Page Down", pressed)
    measured(tab, "200 turns of the wheel", wheeled)
    measured(tab, "a jump to the end", lambda: (tab.keyboard.press("End"), tab.wait_for_timeout(1000)))
    measured(tab, "another order", lambda: (tab.select_option("#sort", "slide"), tab.wait_for_timeout(1500)))
    measured(tab, "all dragged past in 10 s", lambda: tab.evaluate(DRAG))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("folder")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1280)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["BLOODCELL_CACHE"] = str(Path(place) / "cache")
        pictures = Path(place) / "cells"
        pictures.mkdir()
        files = linked(given.folder, pictures, given.cells)
        folder = folder_of(str(pictures))
        reader = Reader(load_engines(given.reader, "cpu"), "none", "one", folder, 0.8, cache_root(None))
        filled(reader, folder, files)
        reader.store.close()
        words = [f"checkpoint={given.reader}", f"images={pictures}", "cells=one", "tta=none"]
        server = FolderServer(*words)
        started = time.monotonic()
        server.start()
        print(f"the page has its {given.cells:,} cells after {time.monotonic() - started:.1f} s", flush=True)
        while b"still being judged" in server.ask("GET", "near/0")[1]:  # the training cells, once
            time.sleep(1)
        with chromium() as browser:
            tab = browser.new_page(viewport={"width": given.width, "height": 900})
            started = time.monotonic()
            tab.goto(f"http://127.0.0.1:{server.port}/")
            tab.locator(".tile").first.wait_for(timeout=60_000)
            tab.evaluate(WATCH)
            wait_settled(tab)
            print(f"first grid with all its pictures: {time.monotonic() - started:.2f} s", flush=True)
            scrolled(tab)
        print(f"the server's memory: {server.peak():.2f} GB at most")
        server.end(signal.SIGTERM)


if __name__ == "__main__":
    main()
