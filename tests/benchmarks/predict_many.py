"""Whether `bloodcell predict` takes flat memory and survives being killed, on a great many files.

    python tests/benchmarks/predict_many.py --run RUN [--images FOLDER] [--files 100000] [--kills 3] [--seed 0]

Makes a tree of so many links to the images (without --images, to five painted ones), every thousandth to a file that is
no image. Predicts it twice: undisturbed, with the memory of the process sampled; and killed with SIGKILL at as many
random moments, each time continued by the same command. Prints the rate, the largest memory before the first image and
in each part up to 10, 50 and 100 % of them, where it was killed, and whether both tables are the same to the byte.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from bloodcell.data.image_paths import iter_image_paths

PART = 500  # links in a folder


def main() -> None:
    """Measure and print; leave with 1 where the tables differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for links and tables; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        tree = linked(folder, options.images or painted(folder / "painted"), options.files)
        command = [sys.executable, "-m", "bloodcell", "predict", f"checkpoint={options.run}", f"images={tree}"]
        undisturbed(command, folder / "once.csv", options.files)
        moments = sorted(random.Random(options.seed).choices(range(options.files), k=options.kills))
        for number, at in enumerate(moments):
            killed(command, folder / "killed.csv", at, number + 1)
        last = subprocess.run([*command, f"output={folder / 'killed.csv'}"], check=True, capture_output=True, text=True)
        print(last.stdout.strip())
        same = all(
            (folder / f"once{ending}").read_bytes() == (folder / f"killed{ending}").read_bytes()
            for ending in (".csv", ".bad.csv")
        )
        print("the same bytes" if same else "THE TABLES DIFFER")
    raise SystemExit(not same)


def undisturbed(command: list[str], output: Path, files: int) -> None:
    """Predict without a break; print rate and memory."""
    samples: list[tuple[int, int]] = []
    start = time.perf_counter()
    process = subprocess.Popen([*command, f"output={output}"])
    watch(process, output, lambda done: samples.append((done, resident(process.pid))))
    if process.returncode:
        raise SystemExit(f"predict ended with {process.returncode}")
    seconds = time.perf_counter() - start
    print(f"{files:,} files in {seconds:.0f} s, start included: {files / seconds:,.0f} a second")
    for first, last in ((0.0, 0.0), (0.0, 0.1), (0.1, 0.5), (0.5, 1.0)):
        within = [memory for done, memory in samples if (first * files < done <= last * files) or (done == last == 0)]
        what = f"from {first:.0%} to {last:.0%} of the files" if last else "until the first file"
        print(f"largest resident set {what}: {max(within, default=0) / 2**20:,.0f} MB", flush=True)


def killed(command: list[str], output: Path, at: int, number: int) -> None:
    """Predict until so many files are done, and kill."""
    process = subprocess.Popen([*command, f"output={output}"], stdout=subprocess.DEVNULL)

    def kill(done: int) -> None:
        if done >= at:
            process.kill()

    watch(process, output, kill)
    print(f"kill {number}: at {done_in(output):,} files, rows of {output.stat().st_size:,} bytes", flush=True)


def watch(process: subprocess.Popen[bytes], output: Path, look: Callable[[int], object]) -> None:
    """Call a function with the number of files that are done, ten times a second until a process has ended."""
    while process.poll() is None:
        look(done_in(output))
        time.sleep(0.1)


def done_in(output: Path) -> int:
    """Return how many files are done by the state beside a table; 0 where there is none."""
    try:
        return int(json.loads(output.with_suffix(".state.json").read_text())["items"])
    except FileNotFoundError:
        return 0


def resident(process: int) -> int:
    """Return the resident set of a process, bytes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def linked(folder: Path, images: Path, files: int) -> Path:
    """Make a tree of links to the images of a folder, and return its root."""
    given, tree, bad = list(iter_image_paths([str(images.resolve())])), folder / "tree", folder / "none.jpg"
    bad.write_text("no image")
    for number in range(files):
        parent = tree / f"{number // PART // 20:03}" / f"{number // PART:05}"
        if number % PART == 0:
            parent.mkdir(parents=True)
        source = bad if number % 1000 == 999 else given[number % len(given)]
        (parent / f"{number:07}.jpg").symlink_to(source)
    return tree


def painted(folder: Path) -> Path:
    """Write five JPEGs of 320 x 240 of blurred noise, and return their folder."""
    folder.mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3)).save(folder / f"{number}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
