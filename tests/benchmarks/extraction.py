"""Rates of the frozen backbone: the forward pass of each backend, and extraction from image files.

    python tests/benchmarks/extraction.py --root DIR [--weights FILE] [--images 4000] [--backends onnx eager]

DIR holds images at any depth. Forward only: images that lie in memory, float32 (and bf16 for compiled code), on all
cores. Extraction: decoding, resizing, forward pass and writing to the store, from an empty one. Prints images a
second, three times and their median, and the ratio of extraction to the fastest float32 forward pass, measured
before and after it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from bloodcell.data.images import EXTENSIONS
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.inference.backends import Backbone, Forward
from bloodcell.inference.features import Extractor
from bloodcell.models.net import Net
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.schema.model import ModelConfig

MODEL = {"name": "mobilenet_v2", "library": "torchvision", "width": 1.0, "image_size": 224}
NORMALISE = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SECONDS = 6.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", help="a state dict; without it random weights")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--backends", nargs="+", default=["onnx", "compile", "eager"])
    options = parser.parse_args()
    head = {"pool": "max", "hidden": 256, "dropout": 0.0}
    net = Net(ModelConfig.of({**MODEL, **NORMALISE, "weights": options.weights, "head": head}), 4).eval()
    kinds = [(backend, "float32") for backend in options.backends]
    kinds += [(backend, "bf16") for backend in options.backends if backend != "onnx"]
    rates = {}
    for backend, precision in kinds:
        start = time.perf_counter()
        forward = Backbone(net, 224, backend, precision).forward()
        built = time.perf_counter() - start
        rates[backend, precision] = forward, three(lambda forward=forward: forward_rate(forward))
        print(
            f"forward only, {forward.name}: {shown(rates[backend, precision][1])}; built in {built:.1f} s", flush=True
        )
    fastest = max(
        (rate for (_, precision), rate in rates.items() if precision == "float32"), key=lambda r: median(r[1])
    )
    samples = listed(options.root, options.images)
    ratios = []
    for _ in range(3):
        before = forward_rate(fastest[0])
        rate = extraction_rate(net, samples)
        ratios.append(rate / ((before + forward_rate(fastest[0])) / 2))
        print(
            f"extraction of {len(samples.table):,} files: {rate:.0f} images/s, {ratios[-1]:.3f} of forward only",
            flush=True,
        )
    print(f"median ratio {median(ratios):.3f}")


def three(measure: Callable[[], float]) -> list[float]:
    """Measure three times."""
    return [measure() for _ in range(3)]


def shown(rates: list[float]) -> str:
    """Show rates and their median."""
    return f"{median(rates):.0f} images/s ({', '.join(f'{rate:.0f}' for rate in rates)})"


def forward_rate(forward: Forward) -> float:
    """Return images a second of the forward pass alone, run in as many threads as it takes."""
    images = np.random.default_rng(0).integers(0, 256, (forward.batch, 224, 224, 3), dtype=np.uint8)

    def run(_: int) -> int:
        done, end = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            done += len(forward.run(images))
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(threads := min(forward.streams, cpu_count())) as pool:
        done = sum(pool.map(run, range(threads))) if threads > 1 else run(0)
    return done / (time.perf_counter() - start)


def listed(root: Path, images: int) -> Samples:
    """Return a samples table of up to so many files below a folder, evenly chosen."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS)
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(images, len(files))).astype(int))]
    rows = [(path.relative_to(root).as_posix(), "", "train", "", "") for path in chosen]
    return Samples(pd.DataFrame(rows, columns=COLUMNS), root)


def extraction_rate(net: Net, samples: Samples) -> float:
    """Return images a second of extraction into an empty store; building the backend is not part of it."""
    with tempfile.TemporaryDirectory() as folder:
        backbone = Backbone(net, 224)
        backbone.forward()
        extractor = Extractor(net, Preprocessing(224), backbone, Path(folder))
        start = time.perf_counter()
        extractor.features(samples)
        return len(samples.table) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
