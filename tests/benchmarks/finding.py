"""How many white cells of annotated fields are found, and how much that is found is one.

    python tests/benchmarks/finding.py FOLDER... [--without NAMES.txt] [--finder FILE.onnx]

A FOLDER has boxes.csv, or Annotations/ and JPEGImages/ (see `bloodcell.data.annotated_fields`), or pictures of one cell
each, of which the share with a cell is printed; those in folders called platelet or none are left out. A cell is found
if the centre of a box of ours lies in its box; each box counts for one cell. Pictures without a sure cell are those
whose cells `predict` flags. With --finder, another net than the package's.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from bloodcell.data import cells
from bloodcell.data.annotated_fields import NONE, boxes_of, read_names
from bloodcell.data.image_paths import iter_image_paths
from bloodcell.data.images import read_image

THRESHOLDS = (0.3, 0.4, cells.SURE, 0.6)


def matched(found, boxes):
    """Return how many of our cells lie in an annotated box of their own, the surest first."""
    free = list(boxes)
    for cell in sorted(found, key=lambda cell: -cell.score):
        x, y = cell.centre
        inside = [(abs(x - a - w / 2) + abs(y - b - h / 2), (a, b, w, h)) for a, b, w, h in free
                  if 0 <= x - a <= w and 0 <= y - b <= h]  # fmt: skip
        if inside:
            free.remove(min(inside)[1])
    return len(boxes) - len(free)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--without", type=Path)
    parser.add_argument("--finder", type=Path)
    given = parser.parse_args()
    cells.INTEGERS = given.finder or cells.INTEGERS
    cv2.setNumThreads(1)
    without = read_names(given.without)
    for folder in given.folders:
        boxes = {
            file: [tuple(box) for box in one] for file, one in boxes_of(folder).items() if file.name not in without
        }
        files = list(boxes) or [Path(file) for file in iter_image_paths([str(folder)])]
        files = [file for file in files if boxes or file.parent.name.lower() not in NONE]
        images = (read_image(file) for file in files)
        default, found, seconds = [], [], 0.0
        for image in images:
            start = time.thread_time()
            default.append(cells.find_cells(image))
            seconds += time.thread_time() - start
            found.append(cells.find_cells(image, min(THRESHOLDS)))
        print(f"{folder}: {len(files)} pictures, {len(files) / seconds:.0f} a second on one core")
        some = [one for one in default if one]
        print(f"  {sum(map(cells.doubtful, some))} of {len(some)} pictures with cells have no sure one")
        rows = {
            f"score {least}": [[cell for cell in one if cell.score >= least] for one in found] for least in THRESHOLDS
        }
        for name, sure in {"default": default, **rows}.items():
            if not boxes:
                print(f"  {name}: a cell in {100 * np.mean([bool(one) for one in sure]):.1f} % of the pictures")
                continue
            right = sum(matched(one, boxes[file]) for one, file in zip(sure, files, strict=True))
            there, said = sum(map(len, boxes.values())), sum(map(len, sure))
            print(f"  {name}: {there} cells, recall {right / there:.3f}, precision {right / max(said, 1):.3f}")


if __name__ == "__main__":
    main()
