"""How often the located cell lies in an annotated box, and how much of the box each crop size holds.

    python tests/benchmarks/localisation.py --photographs JPEGImages --annotations Annotations --sources RUN/sources.csv
        [--finder 2]

Takes the Kaggle set's original photographs with an annotated WBC box. `--sources` is an audit's table: only photographs
that an image of TRAIN comes from are taken, and none that an image of another part comes from.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing

FACTORS = (1.5, 1.75, 2.0, 2.25, 2.5, 3.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photographs", "annotations", "sources"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--finder", type=int, default=1, help="1: the stain of the nucleus, 2: the net")
    options = parser.parse_args()
    crops = [Preprocessing(crop="cell", crop_size=factor, finder=options.finder) for factor in FACTORS]
    hits, diameters, shares = [], [], []
    for name in training_photographs(options.sources):
        if not (boxes := white_cells(options.annotations / f"{name}.xml")):
            continue
        image = read_image(options.photographs / f"{name}.jpg")
        squares = [square for crop in crops if (square := crop.square(image))]
        box = next((b for b in boxes if squares and holds(b, *squares[0])), None)
        hits.append(box is not None)
        if box:
            diameters.append(squares[0][2] / FACTORS[0])
            shares.append([held(box, *square) for square in squares])
    print(f"{len(hits)} photographs; the centre lies in a box in {np.mean(hits):.1%}")
    percentiles = np.percentile(diameters, [5, 50, 95]).round(1)
    print(f"diameter of the nucleus, 5th, 50th and 95th percentile: {percentiles} pixels")
    for factor, column in zip(FACTORS, np.array(shares).T, strict=True):
        low = np.percentile(column, 5)
        print(f"{factor} diameters hold {column.mean():.3f} of the box on average, 5th percentile {low:.3f}")


def training_photographs(file: Path) -> list[str]:
    """Return the photographs behind TRAIN alone."""
    sources = pd.read_csv(file)
    train = sources["path"].str.contains("/TRAIN/")
    return sorted(set(sources["photograph"][train]) - set(sources["photograph"][~train]))


def white_cells(file: Path) -> list[list[float]]:
    """Return the annotated boxes x0, y0, x1, y1 of white cells; none where there is no annotation."""
    if not file.is_file():
        return []
    cells = [item for item in ElementTree.parse(file).getroot().iter("object") if item.findtext("name") == "WBC"]
    return [[float(c.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")] for c in cells]


def holds(box: list[float], left: float, top: float, side: float) -> bool:
    """Return whether a box has the centre of a square."""
    x, y = left + side / 2, top + side / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def held(box: list[float], left: float, top: float, side: float) -> float:
    """Return the share of a box that lies in a square."""
    across = max(0.0, min(box[2], left + side) - max(box[0], left))
    down = max(0.0, min(box[3], top + side) - max(box[1], top))
    return across * down / ((box[2] - box[0]) * (box[3] - box[1]))


if __name__ == "__main__":
    main()
