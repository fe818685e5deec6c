"""Whether a net looks at the cell: Grad-CAM of the predicted class on a run's validation images.

    python tests/benchmarks/gradcam_on_cells.py RUN [--root DIR] [--all] [--diameters 1.5] [--of prediction]

The cell is a disc around the located nucleus: by default of 1.5 nuclear diameters, the side of the square that holds
95 % of an annotated box. Prints how often the peak of the map lies in it; what chance would give, which is the disc's
mean share of the picture; how often it lies in the disc of another image's cell, which a net that always looks at the
same place would match; and which share of the map lies in the disc. All of it on what the net takes, so for a run with
data.crop=cell on the square. One image of each source is looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloodcell.data.cell_finder import Nucleus, locate
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples, read_samples
from bloodcell.inference.loader import load_engines
from bloodcell.metrics.by_source import sources_of
from bloodcell.models.gradcam import grad_cam
from bloodcell.models.net import Net

Array = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--root", help="where the images lie, if they have moved since")
    parser.add_argument("--all", action="store_true", help="all images, not one of each source")
    parser.add_argument("--diameters", type=float, default=1.5, help="of the disc, in diameters of the nucleus")
    parser.add_argument("--of", choices=("prediction", "label"), default="prediction", help="the class of the map")
    options = parser.parse_args()
    (engine,) = load_engines(str(options.run), "cpu")
    classifier = engine.trained()
    samples = read_samples(options.run / "samples.csv", options.root).of_split("val")
    if not options.all:
        samples = Samples(samples.table[~sources_of(samples.table).duplicated()], samples.root)
    looked = look(classifier, samples, options.diameters, options.of)
    print(f"{len(samples.table)} validation images, {len(looked['right'])} with a located cell, "
          f"{np.mean(looked['right']):.1%} of them predicted right; map of {looked['places']} places")  # fmt: skip
    report(looked["maps"], looked["discs"])


def look(classifier: Any, samples: Samples, diameters: float, of: str) -> dict[str, Any]:
    """Return the maps and the discs, (N, size, size), of the images whose cell is located, and which are right."""
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    net: Net = classifier.net.eval()
    maps, discs, right, places = [], [], [], ""
    for file, label in zip(samples.files(), samples.table["label"], strict=True):
        picture = read_image(file)
        if (cell := locate(picture)) is None:
            continue
        images = preprocessing(picture)[None]
        with torch.inference_mode():
            features = net.feature_map(images)
            predicted = int(net.head(net.pool(features)).argmax())
        true = classifier.classes.index(label)
        maps.append(grad_cam(net, images, torch.tensor([predicted if of == "prediction" else true]))[0].numpy())
        discs.append(disc(picture, preprocessing, cell, diameters))
        right.append(predicted == true)
        places = " x ".join(map(str, features.shape[2:]))
    return {"maps": np.array(maps), "discs": np.array(discs), "right": np.array(right), "places": places}


def disc(picture: Array, preprocessing: Preprocessing, cell: Nucleus, diameters: float) -> Array:
    """Return which pixels of the net's input, bool (size, size), lie in the disc around the cell."""
    height, width = picture.shape[:2]
    square = preprocessing.square(picture)
    left, top, across, down = (square[0], square[1], square[2], square[2]) if square else (0, 0, width, height)
    centres = (np.arange(preprocessing.image_size) + 0.5) / preprocessing.image_size
    x, y = left + across * centres - 0.5, top + down * centres - 0.5
    away = (x[None] - cell.x) ** 2 + (y[:, None] - cell.y) ** 2
    return np.asarray(away <= (diameters * cell.diameter / 2) ** 2)


def peak(seen: Array) -> tuple[int, int]:
    """Return row and column of a map's largest value; where several are, as at a border, their middle."""
    rows, columns = np.nonzero(seen == seen.max())
    return round(rows.mean()), round(columns.mean())


def report(maps: Array, discs: Array) -> None:
    """Print how the maps lie to the discs."""
    peaks = np.array([peak(seen) for seen in maps])
    inside = discs[:, peaks[:, 0], peaks[:, 1]]  # [i, j]: the peak of image j lies in the disc of image i
    hits, others = np.diag(inside), inside[~np.eye(len(maps), dtype=bool)]
    chance, mass = discs.mean(), maps.sum(axis=(1, 2))
    shares = (maps * discs).sum(axis=(1, 2))[mass > 0] / mass[mass > 0]
    drawn = np.random.default_rng(0).integers(0, len(maps), (2000, len(maps)))
    ratios = hits[drawn].mean(axis=1) / discs.mean(axis=(1, 2))[drawn].mean(axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    print(f"peak in the cell: {hits.mean():.1%}; by chance (share of the area): {chance:.1%}")
    print(f"ratio: {hits.mean() / chance:.2f} (95 % interval {low:.2f} to {high:.2f}; at most {1 / chance:.2f})")
    print(f"peak in another image's cell: {others.mean():.1%}")
    print(f"share of the map in the cell: {shares.mean():.1%}; maps that are 0 everywhere: {int((mass == 0).sum())}")


if __name__ == "__main__":
    main()
