"""Synthetic smears: a small data set with the same leak as the Kaggle set, and with known sources.

Photographs are painted and then copied with the augmentation of the Kaggle set. The copies have Kaggle's folder layout
and file names, which do not identify the photograph. TRAIN and TEST come from different cells, except for `rescans`:
cells that were photographed twice.

    images/{TRAIN,TEST}/<CLASS>/_12_4431.jpeg   the copies
    originals/BloodImage_00000.jpg              the photographs
    truth.csv     a row per copy: path, split, label, source, photograph, x0, y0, x1, y1
    smears.json   the settings; written last, so that it marks a complete folder
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bloodcell.data.images import Pixels
from bloodcell.data.synthetic import painter
from bloodcell.data.synthetic.copies import STRENGTHS, make_copy
from bloodcell.data.synthetic.painter import CLASSES, HEIGHT, MARGIN, WIDTH, Box
from bloodcell.data.threads import map_in_order
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import cpu_count
from bloodcell.runtime.io import read_json
from bloodcell.runtime.schema.checks import require, require_choice

#: Raise it when the painting changes: folders with another number are painted again.
PAINTING = 1

SPLITS = ("TRAIN", "TEST")
GROUPS = tuple(product(SPLITS, CLASSES))

#: More files than this, 10 kB each, are a typing error.
MOST_FILES = 1_000_000

_TRUTH = ["path", "split", "label", "source", "photograph", "x0", "y0", "x1", "y1"]

#: Photographs of each class relative to the most frequent one, as in the Kaggle set's TRAIN.
SHARES = {"EOSINOPHIL": 75 / 159, "LYMPHOCYTE": 27 / 159, "MONOCYTE": 16 / 159, "NEUTROPHIL": 1.0}


@dataclass(frozen=True)
class Smears:
    """The settings of a synthetic data set; a value out of range raises a BloodcellError."""

    train_photographs: int = 160  # of each class, 1 or more
    test_photographs: int = 40  # of each class, 1 or more
    copies: int = 5  # files of each photograph, 1 or more; the mean of each class if `uneven`
    strength: str = "kaggle"  # difference between a copy and its photograph: mild, kaggle or strong
    rescans: int = 0  # cells of each class in TRAIN with a second photograph, which is in TEST or TRAIN by turns
    uneven: bool = False  # rarer classes have fewer photographs, as in the Kaggle set, but as many files as the others
    seed: int = 0  # 0 or more; a smaller set's photographs are among those of a larger one with the same seed

    def __post_init__(self) -> None:
        """Check the values."""
        lowest = {"train_photographs": 1, "test_photographs": 1, "copies": 1, "rescans": 0, "seed": 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            right = isinstance(value, int) and not isinstance(value, bool) and value >= low
            require(right, f"data.reader.{name}", value, f"give a whole number of at least {low}")
        require_choice("data.reader.strength", self.strength, *STRENGTHS)
        most = min(self.photographs("TRAIN", label) for label in CLASSES)
        require(self.rescans <= most, "data.reader.rescans", self.rescans, f"the smallest class has {most}")
        photographs = self.train_photographs + self.test_photographs + self.rescans
        if (files := len(CLASSES) * photographs * self.copies) > MOST_FILES:
            raise BloodcellError(f"synthetic smears: {files:,} files; the limit is {MOST_FILES:,}, ask for fewer")

    def photographs(self, split: str, label: str) -> int:
        """Return the number of photographs of a class, without rescans."""
        most = self.train_photographs if split == "TRAIN" else self.test_photographs
        return max(1, round(most * SHARES[label])) if self.uneven else most


@dataclass(frozen=True)
class Slot:
    """A photograph to be painted, and its place in the data set."""

    split: str
    label: str
    index: int  # of the cell in its split and class
    cell: int
    photograph: int
    rescan: bool = False


def write_smears(folder: Path, smears: Smears) -> None:
    """Paint a synthetic data set into a folder, completely or not at all.

    The same settings give the same bytes. A complete folder with the same settings is left unchanged; one with other
    settings is replaced.

    Raises:
        BloodcellError: The folder holds something else or cannot be written.
    """
    folder = Path(folder).expanduser().resolve()
    if _is_complete(folder, smears):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_replaceable(folder)
        # in the same parent, because a rename is atomic only within one file system
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        ) as temporary:
            _paint_set(Path(temporary) / "new", smears)
            _put_in_place(folder, Path(temporary), smears)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BloodcellError(
            f"cannot write synthetic smears to {folder}: {reason}; choose another folder or free some space"
        ) from error


def _settings(smears: Smears) -> dict[str, Any]:
    return {"painting": PAINTING, **asdict(smears)}


def _is_complete(folder: Path, smears: Smears) -> bool:
    with suppress(OSError, ValueError):
        return bool(read_json(folder / "smears.json") == _settings(smears))
    return False


def _check_replaceable(folder: Path) -> None:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a single call, because another process may replace the folder
    except FileNotFoundError:
        return
    if names and "smears.json" not in names:
        raise BloodcellError(f"{folder} holds something else than synthetic smears; choose another folder")


def _put_in_place(folder: Path, temporary: Path, smears: Smears) -> None:
    """Rename the painted set to its place, even if another process does the same.

    An existing folder is first moved into the temporary one, because a rename cannot replace a folder with files.
    """
    for attempt in range(10):
        if _is_complete(folder, smears):
            return
        _check_replaceable(folder)
        try:
            if folder.exists():
                folder.rename(temporary / f"old{attempt}")
            (temporary / "new").rename(folder)
            return
        except OSError:  # the other process renamed first
            if attempt == 9:
                raise


def _paint_set(folder: Path, smears: Smears) -> None:
    """Write all photographs, copies and the true sources and boxes into a new folder."""
    for group in GROUPS:
        folder.joinpath("images", *group).mkdir(parents=True)
    (folder / "originals").mkdir()
    slots = _slots(smears)
    names = _file_names(slots, smears)
    tables = map_in_order(lambda slot: _paint_slot(folder, slot, names[slot], smears), slots, cpu_count())
    truth = pd.DataFrame([row for table in tables for row in table], columns=_TRUTH).sort_values("path")
    (folder / "truth.csv").write_bytes(truth.to_csv(index=False, lineterminator="\n").encode())
    (folder / "smears.json").write_text(json.dumps(_settings(smears)) + "\n", "utf-8", newline="\n")


def _slots(smears: Smears) -> list[Slot]:
    """Return the photographs of TRAIN, then of TEST, then the rescans."""
    cells = [(*group, i) for group in GROUPS for i in range(smears.photographs(*group))]
    slots = [Slot(*cell, cell=number, photograph=number) for number, cell in enumerate(cells)]
    again = [slot for slot in slots if slot.split == "TRAIN" and slot.index < smears.rescans]
    return slots + [
        replace(slot, split=SPLITS[(slot.index + 1) % 2], photograph=number, rescan=True)
        for number, slot in enumerate(again, start=len(slots))
    ]


def _file_names(slots: list[Slot], smears: Smears) -> dict[Slot, list[str]]:
    """Return the copies' names, which look like the Kaggle set's and do not identify the photograph."""
    names: dict[Slot, list[str]] = {}
    for number, group in enumerate(GROUPS):
        members = [slot for slot in slots if (slot.split, slot.label) == group]
        most = smears.train_photographs if group[0] == "TRAIN" else smears.test_photographs
        files = smears.copies * (most + sum(slot.rescan for slot in members))
        rng = np.random.default_rng([smears.seed, 1, number])
        numbers = rng.choice(max(files, 10_000), size=files, replace=False)
        places = rng.permutation(files) % len(members)
        shuffled = [f"_{place}_{number}.jpeg" for place, number in zip(places, numbers, strict=True)]
        ends = np.linspace(0, files, len(members) + 1).astype(int)
        names |= {slot: shuffled[i:j] for slot, i, j in zip(members, ends[:-1], ends[1:], strict=True)}
    return names


def _paint_slot(folder: Path, slot: Slot, names: list[str], smears: Smears) -> list[tuple[Any, ...]]:
    """Write one photograph and its copies; return their rows of truth.csv."""
    photograph, box = _photograph(slot, smears.seed)
    title = f"BloodImage_{slot.photograph:05d}"
    _write_jpeg(folder / "originals" / f"{title}.jpg", photograph)
    rng = _generator(smears.seed, slot, 2 + slot.rescan)
    rows = []
    for name in names:
        path = f"images/{slot.split}/{slot.label}/{name}"
        copy, place = make_copy(photograph, box, STRENGTHS[smears.strength], rng)
        _write_jpeg(folder / path, copy)
        rows.append((path, slot.split, slot.label, f"cell_{slot.cell:05d}", title, *place))
    return rows


def _photograph(slot: Slot, seed: int) -> tuple[Pixels, Box]:
    """Paint a slot's photograph; a rescan is another view of the same smear."""
    rng = _generator(seed, slot, 0)
    if not slot.rescan:
        return painter.paint_photograph(slot.label, rng)
    density, box = painter.paint_smear(slot.label, rng)
    first, rng = painter.draw_view(rng), _generator(seed, slot, 1)
    return painter.expose(density, box, _second_view(first, rng), rng)


def _generator(seed: int, slot: Slot, purpose: int) -> np.random.Generator:
    """Return a generator for one cell and purpose, independent of the order and number of cells."""
    side = 0 if slot.rescan else SPLITS.index(slot.split)  # a rescanned cell is one of TRAIN
    return np.random.default_rng([seed, 0, side, CLASSES.index(slot.label), slot.index, purpose])


def _second_view(first: painter.View, rng: np.random.Generator) -> painter.View:
    """Shift the view by 20 to 40 % along one axis, and change focus and light a little."""
    x, y = first.x, first.y
    if rng.uniform() < 0.5:
        x += round(WIDTH * rng.uniform(0.2, 0.4)) * (1 if x < WIDTH / 2 else -1)
    else:
        y += round(HEIGHT * rng.uniform(0.2, 0.4)) * (1 if y < HEIGHT / 2 else -1)
    return replace(
        first,
        x=int(np.clip(x, MARGIN, WIDTH - MARGIN)),
        y=int(np.clip(y, MARGIN, HEIGHT - MARGIN)),
        blur=first.blur + rng.uniform(0.0, 0.4),
        light=first.light * np.float32(rng.uniform(0.96, 1.04)),
    )


def _write_jpeg(path: Path, image: Pixels) -> None:
    """Write an RGB image; quality 85 gives files of about 10 kB, as in the Kaggle set."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise OSError(f"OpenCV cannot encode {path.name}")
    path.write_bytes(data.tobytes())
