"""Rate of `bloodcell predict` on a folder, against the forward pass alone of the same backend.

    python tests/benchmarks/predicting.py --run RUN [--images FOLDER] [--count 2000] [--backend auto] [--repeats 3]

Forward only: images that lie in memory, in as many threads as the backend takes, measured before and after each
prediction. Predicting: listing, decoding, localising where the run does, resizing, forward pass, and the table, from
the first image to the last; loading the run and building the backend are not part of it. RUN may be an exported file;
forward only is then the faster of that and of a session of ONNX Runtime with its own settings, 32 images at once.
Without --images, made-up JPEGs of 320 x 240. Prints images a second and the ratio of each repeat, the median, and the
peak of the memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageFilter

from bloodcell.data.image_paths import iter_image_paths
from bloodcell.inference.engine import Pass
from bloodcell.inference.ensemble import Ensemble
from bloodcell.inference.loader import load_engines
from bloodcell.inference.predict import fill
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
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()  # as the verb does; it serves the forward pass alone as well
    ensemble = Ensemble(load_engines(options.run, "cpu", FeaturesConfig(backend=options.backend)))
    (way,), size = ensemble.passes(options.count), ensemble.engines[0].preprocessing.image_size
    ways = [way, plain_session(Path(options.run))] if options.run.endswith(".onnx") else [way]
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        files = chosen(options.images or painted(Path(scratch) / "images"), options.count)
        print(f"{len(files):,} images, {ensemble.engines[0].preprocessing}; {way.name}", flush=True)
        for number in range(options.repeats):
            before = max(forward_rate(one, size) for one in ways)
            rate = predict_rate(ensemble, files, Path(scratch) / f"{number}.csv")
            forward = (before + max(forward_rate(one, size) for one in ways)) / 2
            ratios.append(rate / forward)
            print(f"forward only {forward:.0f} images/s, predict {rate:.0f}: {ratios[-1]:.3f}", flush=True)
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


def forward_rate(way: Pass, size: int) -> float:
    """Return images a second of the net alone, run in as many threads as it takes."""
    images = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)

    def run(_: int) -> int:
        done, end = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            done += len(way.run(images)[0])
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(threads := min(way.streams, cpu_count())) as pool:
        done = sum(pool.map(run, range(threads))) if threads > 1 else run(0)
    return done / (time.perf_counter() - start)


def predict_rate(ensemble: Ensemble, files: list[str], output: Path) -> float:
    """Return images a second of the verb."""
    table, start = ResumableCsv(output), time.perf_counter()
    with table.held():
        columns = filled_columns(ensemble, 0.0)
        table.start(columns, {}, files)
        fill(table, ensemble, iter(files), (0, len(files)), 0.0)
    return len(files) / (time.perf_counter() - start)


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


if __name__ == "__main__":
    main()
