"""Seconds and size of the page of an evaluation.

    python tests/benchmarks/report.py [--images 12515] [--sources 322] [--classes 4] [--run FOLDER]

Made-up predictions of copies of few sources, and pictures of noise, which are the largest; with --run those of a run
folder, without pictures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bloodcell.evaluation.failures import worst_errors
from bloodcell.evaluation.report import PICTURES, Origin, write_report
from bloodcell.metrics.predictions import predictions_table
from bloodcell.metrics.predictions_csv import read_predictions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 12515), ("sources", 322), ("classes", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    predictions = (
        read_predictions(options.run / "predictions.csv")
        if options.run
        else made_up(options.images, options.sources, options.classes)
    )
    with tempfile.TemporaryDirectory() as folder:
        root = None if options.run else Path(folder)
        test = predictions[predictions["split"] == "test"]
        shown = worst_errors(test, PICTURES if root else 0)
        paint(Path(folder), shown["path"])
        file, start = Path(folder) / "report.html", time.perf_counter()
        write_report(predictions, file, Origin("benchmark"), root=root)
        seconds, size = time.perf_counter() - start, file.stat().st_size
    print(f"{len(predictions):,} predictions, {len(shown)} pictures: {seconds:.1f} s, {size / 1e6:.2f} MB")


def made_up(images: int, sources: int, classes: int) -> pd.DataFrame:
    """Return predictions of a validation and a test part, half of the sources each."""
    generator = np.random.default_rng(0)
    source = generator.integers(0, sources, images)
    label = source % classes
    names = [f"class {number}" for number in range(classes)]
    alike = generator.dirichlet(np.full(classes, 0.2), sources)[source]
    own = generator.dirichlet(np.full(classes, 0.2), images)
    rows = pd.DataFrame({"path": [f"{number}.png" for number in range(images)], "source": source.astype(str)})
    rows = rows.assign(split=np.where(source < sources // 2, "val", "test"), label=np.array(names)[label])
    return predictions_table(rows, names, 0.35 * np.eye(classes)[label] + 0.35 * alike + 0.3 * own)


def paint(folder: Path, paths: pd.Series[str]) -> None:
    """Write a picture of noise to each path."""
    generator = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (240, 320, 3), np.uint8)).save(folder / path)


if __name__ == "__main__":
    main()
