"""Extraction at four sizes: seconds, and the peak of memory, in processes of their own.

    python tests/benchmarks/marginal_cost.py --folder DIR [--images 1000 5000 20000 100000] [--size 224]

Paints 50 images into DIR and links to them under as many names as the largest size wants. Random weights. Prints the
exponent of a straight line fitted to the logarithms, and the growth of memory with each image.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import COLUMNS, Samples
from bloodcell.data.synthetic.painter import CLASSES, paint_photograph
from bloodcell.inference.backends import Backbone
from bloodcell.inference.features import Extractor
from bloodcell.models.net import Net
from bloodcell.runtime.schema.model import ModelConfig

MODEL = {"name": "mobilenet_v2", "library": "torchvision", "weights": None, "width": 1.0}
NORMALISE = {"mean": [0.5] * 3, "std": [0.25] * 3}
HEAD = {"pool": "avg", "hidden": 0, "dropout": 0.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000, 20000, 100000])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", type=int, help="measure this size once, here")
    options = parser.parse_args()
    if options.only:
        measure(options.folder, options.only, options.size)
        return
    paint(options.folder, max(options.images))
    rows = []
    for images in sorted(options.images):
        command = [sys.executable, __file__, "--folder", str(options.folder), "--size", str(options.size)]
        said = subprocess.run([*command, "--only", str(images)], check=True, capture_output=True, text=True).stdout
        seconds, peak = map(float, said.split()[-2:])
        rows.append((images, seconds, peak))
        print(
            f"{images:7,} images: {seconds:6.1f} s, {images / seconds:.0f} images/s, peak {peak / 2**20:.0f} MiB",
            flush=True,
        )
    sizes, seconds, peaks = map(np.array, zip(*rows, strict=True))
    exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    growth = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])
    print(f"exponent {exponent:.3f}; memory grows by {growth:.0f} bytes an image")


def paint(folder: Path, images: int) -> None:
    """Paint a few photographs and link to them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(50):
        if not (file := folder / f"painted{number}.jpg").exists():
            picture, _ = paint_photograph(CLASSES[number % len(CLASSES)], np.random.default_rng(number))
            Image.fromarray(picture).save(file)
    for number in range(images):
        if not (link := folder / f"{number:07d}.jpg").exists():
            os.link(folder / f"painted{number % 50}.jpg", link)


def measure(folder: Path, images: int, size: int) -> None:
    """Extract so many images into a new store; print seconds and the peak of memory in bytes."""
    torch.manual_seed(0)
    net = Net(ModelConfig.of({**MODEL, **NORMALISE, "image_size": size, "head": HEAD}), 4).eval()
    rows = [(f"{number:07d}.jpg", "a", "train", "", "") for number in range(images)]
    samples = Samples(pd.DataFrame(rows, columns=COLUMNS), folder)
    with tempfile.TemporaryDirectory() as store:
        backbone = Backbone(net, size)
        backbone.forward()
        extractor = Extractor(net, Preprocessing(size), backbone, Path(store))
        start = time.perf_counter()
        extractor.features(samples)
        seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
