"""The square of `data.crop=cell` by the stain of the nucleus (`data.finder=1`) and by the net (`data.finder=2`).

    python tests/benchmarks/both_finders.py FOLDER...

Prints for the pictures of each folder, of one cell each, in how many none is found, how many pictures a second one core
takes, how far the centres of both squares are apart, and how their sides differ.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from bloodcell.data.image_paths import iter_image_paths
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.runtime.hardware import keep_freed_memory


def squares_of(files, crop):
    """Return the square of each file, None if no cell is found, and pictures a second of the processor's time."""
    squares, seconds = [], 0.0
    for file in files:
        image = read_image(file)
        start = time.thread_time()
        squares.append(crop.square(image))
        seconds += time.thread_time() - start
    return squares, len(files) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    keep_freed_memory()
    for folder in given.folders:
        files = list(iter_image_paths([str(folder)]))
        (old, old_rate), (new, new_rate) = (squares_of(files, Preprocessing(crop="cell", finder=one)) for one in (1, 2))
        print(f"{folder}: {len(files)} pictures")
        for name, squares, rate in (("stain", old, old_rate), ("net", new, new_rate)):
            without = [Path(file).parent.name for file, one in zip(files, squares, strict=True) if one is None]
            names = ", ".join(f"{without.count(label)} {label}" for label in sorted(set(without)))
            print(f"  {name}: none in {len(without)} ({names}), {rate:.0f} a second on one core")
        both = np.array([(a, b) for a, b in zip(old, new, strict=True) if a and b], float)
        centres, sides = both[..., :2] + both[..., 2:] / 2, both[..., 2]
        apart = np.linalg.norm(centres[:, 0] - centres[:, 1], axis=1) / sides[:, 0]
        print(f"  distance in sides, 50th, 95th and 99th percentile: {np.percentile(apart, [50, 95, 99]).round(3)}")
        ratios = np.percentile(sides[:, 1] / sides[:, 0], [5, 50, 95]).round(2)
        print(f"  side by the net to side by the stain, 5th, 50th and 95th percentile: {ratios}")


if __name__ == "__main__":
    main()
