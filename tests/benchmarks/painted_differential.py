"""Differential counts of painted slides against their truth: errors of the shares, and intervals that have them.

    python tests/benchmarks/painted_differential.py crops OUT [--slides 800] [--cells 6] [--seed 900]
    python tests/benchmarks/painted_differential.py RUN OUT [--slides 20] [--cells 200] [--seed 1] [--finder FILE.onnx]

The first command paints slides and cuts the cells that the finder finds into OUT/CLASS/slide_01_1.png ..., to train a
classifier with: `python train.py experiment=demo data=imagefolder data.root=OUT 'data.group_regex=(slide_[0-9]+)_'
augment=light callbacks=to_the_end evaluate.tta=d4 trainer.max_epochs=14`. The second paints others into OUT, unless
they are there, and counts them by `bloodcell differential` with RUN. With --finder, another net than the package's
finds the cells; with `--finder truth`, the cells are those that were painted, so that the classifier errs alone. Errors
are those against the cells of each slide; intervals are for the share of the blood, from which these are drawn, too.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import pandas as pd
from finding import matched

import bloodcell
from bloodcell.data import cells
from bloodcell.data.cell_finder import cut, whole_square
from bloodcell.data.cells import Cell, find_cells
from bloodcell.data.images import read_image
from bloodcell.data.preprocessing import EXTENT
from bloodcell.data.synthetic.painter import CLASSES
from bloodcell.data.synthetic.slides import paint_slides
from bloodcell.inference import ensemble

#: Shares on slides to train a classifier with; these slides, and those to count.
EQUAL = dict.fromkeys(CLASSES, 1 / len(CLASSES))
TRAINING, COUNTED = {"slides": 800, "cells": 6, "seed": 900}, {"slides": 20, "cells": 200, "seed": 1}


def painted_boxes(folder):
    """Return the boxes of each painted picture by its file."""
    found = {}
    for table in sorted(folder.glob("*/boxes.csv")):
        rows = pd.read_csv(table)
        for file in sorted(table.parent.glob("*.png")):
            found[file] = rows[rows["image"] == file.name]
    return found


def knows_the_truth(boxes):
    """Return what finds the painted cells in a painted picture."""
    known = {
        read_image(file).tobytes(): [
            Cell(row.left, row.top, row.width, row.height, border=bool(row.border)) for row in rows.itertuples()
        ]
        for file, rows in boxes.items()
    }
    return lambda picture: known[picture.tobytes()]


def found_cells(boxes, folder, table):
    """Return how many cells were painted, how many were found, and how many of these are a painted one each."""
    right = 0
    for file, rows in boxes.items():
        own = table[table["path"] == file.relative_to(folder).as_posix()]
        ours = [Cell(row.left, row.top, row.width, row.height) for row in own.itertuples()]
        right += matched(ours, [tuple(box) for box in rows[["left", "top", "width", "height"]].to_numpy()])
    return sum(map(len, boxes.values())), len(table), right


def painted_cell(rows, cell):
    """Return the row of the painted cell whose box has the centre of a cell; None: there is none, or there are two."""
    x, y = cell.centre
    inside = rows[rows["left"].between(x - rows["width"], x) & rows["top"].between(y - rows["height"], y)]
    return next(inside.itertuples()) if len(inside) == 1 else None


def cut_cells(boxes, folder):
    """Write a picture of each painted cell that is found, two diameters wide, below the name of its class.

    Cells that the border cuts are among them, as a count has those, too.
    """
    for file, rows in boxes.items():
        image = read_image(file)
        for cell in find_cells(image):
            if (row := painted_cell(rows, cell)) is None:
                continue  # no cell, or not sure which
            picture = cut(image, *whole_square(image, *cell.square(EXTENT * cell.diameter)))
            (folder / row.label).mkdir(parents=True, exist_ok=True)
            name = f"{file.parent.name}_{file.stem}_{row.Index}.png"
            (folder / row.label / name).write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def say_errors(truth, table, cells):
    """Print how far shares are from the truth, and how many intervals have it."""
    truth = truth.rename(columns={"share": "blood", "cells": "painted"})
    both = truth.merge(table, how="left", on=["slide", "class"])  # a slide without a cell has no share
    painted = both["painted"] / cells
    errors = 100 * (both["share"] - painted)
    print(f"mean absolute error of a share: {errors.abs().mean():.2f} points, of {len(both)}")
    for name, own in errors.groupby(both["class"]):
        print(f"  {name}: {own.abs().mean():.2f} points, {own.mean():+.2f} in the mean")
    print(f"  by slide: {', '.join(map(str, errors.abs().groupby(both['slide']).mean().round(1)))}")
    for what, true in (("share of the blood", both["blood"]), ("share of the painted cells", painted)):
        hold = (both["low"] <= true) & (true <= both["high"])
        whole = hold.groupby(both["slide"]).all()
        print(f"{what}: {hold.sum()} of {len(hold)} intervals have it, {hold.mean():.1%}")
        print(f"  all intervals of a slide have it on {whole.sum()} of {len(whole)} slides, {whole.mean():.1%}")
    print(f"mean width of an interval: {100 * (both['high'] - both['low']).mean():.1f} points")


def main():
    """Paint, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slides", type=int)
    parser.add_argument("--cells", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--finder")
    given = parser.parse_args()
    usual = TRAINING if given.run == "crops" else COUNTED
    for name, value in usual.items():
        setattr(given, name, value if getattr(given, name) is None else getattr(given, name))
    if given.run == "crops":
        with TemporaryDirectory() as slides:
            paint_slides(Path(slides), given.slides, given.cells, EQUAL, given.seed)
            cut_cells(painted_boxes(Path(slides)), given.folder)
        return
    slides = given.folder / f"slides_{given.slides}_{given.cells}_{given.seed}"
    if not (slides / "slides.csv").is_file():
        paint_slides(slides, given.slides, given.cells, seed=given.seed)
    boxes = painted_boxes(slides)
    if given.finder == "truth":
        ensemble.find_cells = knows_the_truth(boxes)
    elif given.finder:
        cells.INTEGERS = Path(given.finder)
    counts = bloodcell.differential(slides, given.run, outputs=str(given.folder / "counts"), report=False)
    painted, found, right = found_cells(boxes, slides, counts.cells)
    print(f"{painted} cells: recall {right / painted:.3f}, precision {right / found:.3f}")
    say_errors(pd.read_csv(slides / "slides.csv"), counts.table, given.cells)


if __name__ == "__main__":
    main()
