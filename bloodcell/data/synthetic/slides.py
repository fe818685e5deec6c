"""The verb `paint`: slides with fields of several white cells, and the truth about them.

The folder of a slide, e.g. slide_01, has its fields, field_001.png ..., and boxes.csv, a row per white cell; the folder
of all has slides.csv, a row per slide and class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from bloodcell.data.images import Pixels
from bloodcell.data.synthetic.fields import MOST, Slide, WhiteCell, draw_slide, paint_field, place_cells
from bloodcell.data.synthetic.painter import CLASSES
from bloodcell.data.threads import map_in_order
from bloodcell.runtime import run_folder
from bloodcell.runtime.command import say_end
from bloodcell.runtime.config import typed
from bloodcell.runtime.console import counted, progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import write_csv
from bloodcell.runtime.schema.verbs import PaintConfig

#: Second number of all seeds: those of the smears have 0 and 1 there.
_SEED = 2

#: Usual shares of the `CLASSES` in blood, times a number: the lower it is, the more the shares of slides differ.
_USUAL = 12 * np.array([0.05, 0.30, 0.08, 0.57])

_BOXES = ["image", "label", "left", "top", "width", "height", "border"]
_TRUTH = ["slide", "class", "cells", "share"]


@dataclass(frozen=True)
class Plan:
    """A slide to be painted."""

    name: str
    seed: tuple[int, ...]
    slide: Slide
    shares: list[float]  # the chance of each class
    fields: list[list[WhiteCell]]

    def truth(self) -> list[tuple[str, str, int, float]]:
        """Return the rows of slides.csv."""
        labels = [cell.label for field in self.fields for cell in field]
        return [(self.name, one, labels.count(one), share) for one, share in zip(CLASSES, self.shares, strict=True)]


def run(cfg: DictConfig) -> Path:
    """Paint slides into the new folder `output`, and return it."""
    config = typed(cfg, PaintConfig)
    if config.output is None:
        raise BloodcellError("output is not set; name a new folder with output=FOLDER")
    folder = Path(config.output).expanduser()
    run_folder.begin_results(folder, config, key="output")
    fields = paint_slides(folder, config.slides, config.cells, config.shares, config.seed)
    run_folder.end_results(folder)
    cells = counted(config.slides * config.cells, "white cell")
    say(f"{cells} in {counted(fields, 'field')} of {counted(config.slides, 'slide')}")
    say_end(folder / "slides.csv", then=["differential", folder, "checkpoint=RUN"])
    return folder


def paint_slides(folder: Path, slides: int, cells: int, shares: dict[str, float] | None = None, seed: int = 0) -> int:
    """Paint slides into a folder, with the truth about them; the same arguments give the same bytes.

    Args:
        folder: The folder; files of the same names are replaced.
        slides: Number of slides; the first ones stay the same if there are more.
        cells: Number of white cells on each slide.
        shares: The chance that a cell is of a class, 0 to 1, 1 in all; None: each slide has its own, drawn at random.
        seed: A whole number, 0 or more.

    Returns:
        The number of fields.

    Raises:
        BloodcellError: There is no such class, or the folder cannot be written.
    """
    if unknown := set(shares or {}) - set(CLASSES):
        raise BloodcellError(f"shares: no class {', '.join(sorted(unknown))}; the classes are {', '.join(CLASSES)}")
    fields, truth = 0, list[tuple[str, str, int, float]]()
    try:
        with progress("painting cells") as bar:
            for number in range(slides):
                plan, rows = plan_slide(number, cells, shares, seed), []
                for row in _paint(folder / plan.name, plan):
                    rows.append(row)
                    bar(number * cells + len(rows), slides * cells)
                write_csv(pd.DataFrame(rows, columns=_BOXES), folder / plan.name / "boxes.csv")
                fields, truth = fields + len(plan.fields), truth + plan.truth()
        write_csv(pd.DataFrame(truth, columns=_TRUTH), folder / "slides.csv")
    except OSError as error:
        reason = error.strerror or str(error)
        raise BloodcellError(f"cannot write to {folder}: {reason}; choose another output or free some space") from error
    return fields


def plan_slide(number: int, cells: int, shares: dict[str, float] | None, seed: int) -> Plan:
    """Draw a slide, its shares, and the cells of each field; `number` is that of the slide, from 0."""
    rng = np.random.default_rng([seed, _SEED, number])
    slide, chances = draw_slide(rng), rng.dirichlet(_USUAL)
    if shares:
        chances = np.array([shares.get(label, 0.0) for label in CLASSES]) / sum(shares.values())
    labels = [str(label) for label in rng.choice(CLASSES, size=cells, p=chances)]
    fields = _dealt(labels, slide, rng)
    return Plan(f"slide_{number + 1:02d}", (seed, _SEED, number), slide, [float(one) for one in chances], fields)


def _dealt(labels: list[str], slide: Slide, rng: np.random.Generator) -> list[list[WhiteCell]]:
    """Deal cells to fields, 0 to `MOST` each; those without room go to the next field."""
    fields: list[list[WhiteCell]] = []
    while labels:
        number = min(MOST, rng.poisson(slide.white))
        fields.append(place_cells(labels[:number], slide, rng))
        labels = labels[len(fields[-1]) :]
    return fields


def _paint(folder: Path, plan: Plan) -> Iterator[tuple[object, ...]]:
    """Write the fields of a slide, and yield the rows of boxes.csv."""
    folder.mkdir(parents=True, exist_ok=True)

    def paint(number: int) -> list[tuple[object, ...]]:
        cells = plan.fields[number - 1]
        rng = np.random.default_rng([*plan.seed, number])  # its own: the order of the threads does not matter
        picture, boxes = paint_field(plan.slide, cells, rng)
        name = f"field_{number:03d}.png"
        _write_png(folder / name, picture)
        found = zip(cells, boxes, strict=True)
        return [(name, cell.label, box.left, box.top, box.width, box.height, box.border) for cell, box in found]

    for rows in map_in_order(paint, range(1, len(plan.fields) + 1), cpu_count()):
        yield from rows


def _write_png(file: Path, picture: Pixels) -> None:
    done, data = cv2.imencode(".png", picture[..., ::-1])
    if not done:
        raise OSError(f"OpenCV cannot encode {file.name}")
    file.write_bytes(data.tobytes())
