"""Rate of `bloodcell predict` on a folder, against the forward pass alone of the same backend.

    python tests/benchmarks/predicting.py --run RUN [--images FOLDER] [--count 2000] [--backend auto] [--repeats 3]
    python tests/benchmarks/predicting.py --run RUN --cells all [--images FIELDS] [--per-field 3] [--count 300]

Forward only: images that lie in memory, in as many threads as the backend takes, measured before and after each
prediction. Predicting: listing, decoding, localising where the run does, resizing, forward pass, and the table, from
the first image to the last; loading the run and building the backend are not part of it. RUN may be an exported file;
forward only is then the faster of that and of a session of ONNX Runtime with its own settings, 32 images at once.
Without --images, made-up JPEGs of 320 x 240. Prints images a second and the ratio of each repeat, the median, and the
peak of the memory.

With `--cells all`, the images are fields, without --images painted JPEGs of 640 x 480 with --per-field cells. The rates
are those of their cells, and forward only passes as many cells at once as predicting does on average. Prints also how
many fields a second the finder takes on one core, and the processor's time of each step for a field: as all compete for
the same cores, the ratio cannot be above the share of the forward pass.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter

from bloodcell.data.cells import find_cells
from bloodcell.data.image_paths import iter_image_paths
from bloodcell.data.images import read_image
from bloodcell.data.synthetic import fields
from bloodcell.data.synthetic.painter import CLASSES
from bloodcell.inference.engine import Pass
from bloodcell.inference.ensemble import FIELDS, GROUP, Ensemble
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import CELLS_OF_FIELD, fill
from bloodcell.inference.prediction_rows import filled_columns
from bloodcell.inference.resumable_csv import ResumableCsv
from bloodcell.runtime.hardware import cpu_count, keep_freed_memory
from bloodcell.runtime.schema.data import FeaturesConfig

SECONDS = 6.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--cells", choices=("one", "all"), default="one")
    parser.add_argument("--per-field", type=int, default=3)
    parser.add_argument("--count", type=int)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()  # as the verb does; it serves the forward pass alone as well
    finds = options.cells == "all"
    options.count = options.count or (300 if finds else 2000)
    ensemble = Ensemble(load_engines(options.run, "cpu", FeaturesConfig(backend=options.backend)), cells=options.cells)
    (way,), size = (
        ensemble.passes((CELLS_OF_FIELD if finds else 1) * options.count),
        ensemble.engines[0].preprocessing.image_size,
    )
    ways = [way, plain_session(Path(options.run))] if options.run.endswith(".onnx") else [way]
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "images"
        folder = options.images or (painted_fields(made, options.per_field) if finds else painted(made))
        files = chosen(folder, options.count)
        print(f"{len(files):,} images, {ensemble.engines[0].preprocessing}; {way.name}", flush=True)
        rows = say_steps(ensemble, files, way) if finds else len(files)
        batch = min(GROUP, max(1, round(rows / len(files) * FIELDS))) if finds else GROUP
        for number in range(options.repeats):
            before = max(forward_rate(one, size, batch) for one in ways)
            rate = rows / predict_seconds(ensemble, files, Path(scratch) / f"{number}.csv")
            forward = (before + max(forward_rate(one, size, batch) for one in ways)) / 2
            ratios.append(rate / forward)
            what = "cells" if finds else "images"
            print(f"forward only {forward:.0f} {what}/s, predict {rate:.0f}: {ratios[-1]:.3f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"median ratio {median(ratios):.3f}; peak of the memory {peak:.2f} GB")


def plain_session(file: Path) -> Pass:
    """Return the way of images through an ONNX file as anyone would run it: all threads in one session."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file)

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = range(0, len(images), 32)
        parts = [session.run(["probabilities", "features"], {"images": images[at : at + 32]}) for at in starts]
        probabilities, features = (np.concatenate(one) for one in zip(*parts, strict=True))
        return probabilities, features

    return Pass("onnxruntime by itself", 1, run)


def say_steps(ensemble: Ensemble, files: list[str], way: Pass) -> int:
    """Print the processor's time of each step for a field, and return the number of cells of all fields."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    preprocessing, steps, cells = ensemble.preprocessings[0], np.zeros(3), 0
    for file in files:
        start = time.thread_time()
        picture = read_image(file)
        read = time.thread_time()
        found = find_cells(picture)
        seen = time.thread_time()
        preprocessing.cut_cells(picture, found)
        steps += read - start, seen - read, time.thread_time() - seen
        cells += len(found)
    size = ensemble.engines[0].preprocessing.image_size
    images = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    way.run(images)
    start = time.process_time()
    for _ in range(4):
        way.run(images)
    forward = (time.process_time() - start) / 128 * cells
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    read, find, cut = 1000 * steps / len(files)
    whole = steps.sum() + forward
    print(f"finder: {1000 / find:.0f} fields/s on one core, {cells / len(files):.1f} cells a field")
    print(
        f"milliseconds for a field: read {read:.1f}, find {find:.1f}, cut {cut:.1f}, forward "
        f"{1000 * forward / len(files):.1f}, which is {forward / whole:.3f} of all",
        flush=True,
    )
    return cells


def forward_rate(way: Pass, size: int, batch: int = GROUP) -> float:
    """Return images a second of the net alone, so many at once, run in as many threads as it takes."""
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)

    def run(_: int) -> int:
        done, end = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            done += len(way.run(images)[0])
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(threads := min(way.streams, cpu_count())) as pool:
        done = sum(pool.map(run, range(threads))) if threads > 1 else run(0)
    return done / (time.perf_counter() - start)


def predict_seconds(ensemble: Ensemble, files: list[str], output: Path) -> float:
    """Return how long the verb takes."""
    table, start = ResumableCsv(output), time.perf_counter()
    with table.held():
        columns = filled_columns(ensemble, 0.0)
        table.start(columns, {}, files)
        fill(table, ensemble, iter(files), (0, len(files)), 0.0)
    return time.perf_counter() - start


def chosen(folder: Path, count: int) -> list[str]:
    """Return so many files below a folder, evenly chosen; the same again where there are not so many."""
    files = list(iter_image_paths([str(folder)]))
    if len(files) < count:
        return [files[i % len(files)] for i in range(count)]
    return [files[i] for i in np.linspace(0, len(files) - 1, count).astype(int)]


def painted(folder: Path) -> Path:
    """Write 200 JPEGs of 320 x 240 of blurred noise, and return their folder."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(200):
        noise = Image.fromarray(generator.integers(0, 256, (240, 320, 3), dtype=np.uint8))
        noise.filter(ImageFilter.GaussianBlur(3)).save(folder / f"{number:03}.jpg", quality=90)
    return folder


def painted_fields(folder: Path, cells: int) -> Path:
    """Write 40 JPEGs of painted fields with so many cells or, if there is no room, fewer; return their folder."""
    folder.mkdir()
    for number in range(40):
        rng = np.random.default_rng(number)
        slide = replace(fields.draw_slide(rng), magnification=0.45, red_radius=13.0, eyepiece=None)
        placed = fields.place_cells(list(rng.choice(CLASSES, cells)), slide, rng)
        picture, _ = fields.paint_field(slide, placed, rng)
        Image.fromarray(picture).save(folder / f"{number:02}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
