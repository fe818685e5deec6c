"""Synthetic smears: a small data set as deceptive as the Kaggle set, with the truth kept beside it.

Photographs are painted, then copied with the augmentation that made the Kaggle set, and the copies are put
into its layout under names that say nothing of their photograph. TRAIN and TEST come from different cells,
unless `rescans` asks for cells that were photographed twice.

    images/{TRAIN,TEST}/<CLASS>/_12_4431.jpeg   the copies
    originals/BloodImage_00000.jpg              the photographs
    truth.csv     a row a copy: path, split, label, source, photograph, x0, y0, x1, y1
    smears.json   the specification; written last, so that it marks a complete folder
"""

from __future__ import annotations

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bloodcell.data.synthetic import painter
from bloodcell.data.synthetic.copies import STRENGTHS, make_copy
from bloodcell.data.synthetic.painter import CLASSES, HEIGHT, MARGIN, WIDTH, Box, Pixels, paint_photograph
from bloodcell.runtime.errors import BloodcellError

__all__ = ["CLASSES", "Smears", "paint_photograph", "write_smears"]

#: Raise it when the painting changes, so that folders of an older painting are painted anew.
PAINTING = 1

SPLITS = ("TRAIN", "TEST")

#: More than this many files of some 10 kB are a slip of the keyboard.
MOST_FILES = 1_000_000


@dataclass(frozen=True)
class Smears:
    """What to paint.

    Attributes:
        train_photographs: Photographs of each class behind TRAIN, 1 or more.
        test_photographs: Photographs of each class behind TEST, 1 or more.
        copies: Augmented files of each photograph, 1 or more; on average, where `uneven`.
        strength: How much a copy differs from its photograph: mild, kaggle or strong.
        rescans: So many of each class's TRAIN cells are photographed a second time, the field shifted by 20
            to 40 %: the first of them for TEST, the second for TRAIN, and so on by turns. They come on top
            of the numbers above. 0 to the smallest class's number of photographs in TRAIN.
        uneven: Give the rarer classes fewer photographs, as in the Kaggle set (see `SHARES`), and more copies
            of each instead: all classes keep the same number of files.
        seed: 0 or more. The photographs of a smaller set are those of a larger one with the same seed.
    """

    train_photographs: int = 160
    test_photographs: int = 40
    copies: int = 5
    strength: str = "kaggle"
    rescans: int = 0
    uneven: bool = False
    seed: int = 0


#: Photographs of a class for each of the commonest: 75, 27, 16 and 159 stand behind the Kaggle set's TRAIN.
SHARES = {"EOSINOPHIL": 75 / 159, "LYMPHOCYTE": 27 / 159, "MONOCYTE": 16 / 159, "NEUTROPHIL": 1.0}


@dataclass(frozen=True)
class Slot:
    """One photograph to be taken, and where it belongs."""

    split: str
    label: str
    index: int  # of the cell among those of its split and class
    cell: int
    photograph: int
    rescan: bool = False

    @property
    def name(self) -> str:
        """The original's file name without its ending."""
        return f"BloodImage_{self.photograph:05d}"


def write_smears(folder: Path, smears: Smears) -> None:
    """Paint a set of smears into a folder, whole or not at all.

    The same specification gives the same bytes. A complete folder of the same specification is left as it
    is, one of another specification is replaced, and a folder that holds anything else is refused.

    Args:
        folder: Where to write; created with its parents.
        smears: What to paint.

    Raises:
        BloodcellError: A senseless specification, a folder that holds something else or cannot be written.
    """
    _check(smears)
    folder = Path(folder).expanduser().resolve()
    if _is_complete(folder, smears):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_replaceable(folder)
        # Beside the target, for only within one file system is a rename atomic.
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        ) as workshop:
            _paint_set(Path(workshop) / "new", smears)
            _put_in_place(folder, Path(workshop), smears)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BloodcellError(
            f"cannot write synthetic smears to {folder}: {reason}; choose another folder or free some space"
        ) from error


def _check(smears: Smears) -> None:
    """Refuse a specification that makes no sense."""
    lowest = {"train_photographs": 1, "test_photographs": 1, "copies": 1, "rescans": 0, "seed": 0}
    for name, low in lowest.items():
        value = getattr(smears, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise BloodcellError(f"synthetic smears: {name}={value!r}; give a whole number of at least {low}")
    if smears.strength not in STRENGTHS:
        raise BloodcellError(f"synthetic smears: strength={smears.strength!r}; give {' or '.join(STRENGTHS)}")
    if smears.rescans > (most := min(_photographs(smears, "TRAIN", label) for label in CLASSES)):
        raise BloodcellError(f"synthetic smears: rescans={smears.rescans}; the smallest class has {most}")
    photographs = smears.train_photographs + smears.test_photographs + smears.rescans
    if (files := len(CLASSES) * photographs * smears.copies) > MOST_FILES:
        raise BloodcellError(f"synthetic smears: {files:,} files; the limit is {MOST_FILES:,}, ask for fewer")


def _photographs(smears: Smears, split: str, label: str) -> int:
    """Number of photographs of a class, rescans not counted."""
    most = smears.train_photographs if split == "TRAIN" else smears.test_photographs
    return max(1, round(most * SHARES[label])) if smears.uneven else most


def _specification(smears: Smears) -> dict[str, Any]:
    """What the completion mark holds."""
    return {"painting": PAINTING, **asdict(smears)}


def _is_complete(folder: Path, smears: Smears) -> bool:
    """Say whether a folder holds exactly this set."""
    try:
        return bool(json.loads((folder / "smears.json").read_text("utf-8")) == _specification(smears))
    except (OSError, ValueError):
        return False


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace what is not a set of smears."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - one look, for another process may be swapping the folder
    except FileNotFoundError:
        return
    if names and "smears.json" not in names:
        raise BloodcellError(f"{folder} holds something else than synthetic smears; choose another folder")


def _put_in_place(folder: Path, workshop: Path, smears: Smears) -> None:
    """Rename the painted set to its place; another process may be doing the same.

    Whatever stands there is moved into the workshop, which is deleted afterwards, because no system renames
    a folder over a full one.
    """
    for attempt in range(10):
        if _is_complete(folder, smears):
            return
        _check_replaceable(folder)
        try:
            if folder.exists():
                folder.rename(workshop / f"old{attempt}")
            (workshop / "new").rename(folder)
            return
        except OSError:  # the other process was quicker at one of the two
            if attempt == 9:
                raise


def _paint_set(folder: Path, smears: Smears) -> None:
    """Paint all photographs, copies and the truth into a new folder."""
    slots = _slots(smears)
    for split in SPLITS:
        for label in CLASSES:
            (folder / "images" / split / label).mkdir(parents=True)
    (folder / "originals").mkdir()
    names = _file_names(slots, smears)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        tables = list(pool.map(lambda slot: _paint_slot(folder, slot, names[slot], smears), slots))
    truth = pd.DataFrame([row for table in tables for row in table]).sort_values("path")
    (folder / "truth.csv").write_bytes(truth.to_csv(index=False, lineterminator="\n").encode())
    (folder / "smears.json").write_text(json.dumps(_specification(smears)) + "\n", "utf-8", newline="\n")


def _slots(smears: Smears) -> list[Slot]:
    """List the photographs: TRAIN, TEST, then the rescans."""
    groups = [(split, label) for split in SPLITS for label in CLASSES]
    cells = [(*group, i) for group in groups for i in range(_photographs(smears, *group))]
    slots = [Slot(*cell, cell=number, photograph=number) for number, cell in enumerate(cells)]
    again = [slot for slot in slots if slot.split == "TRAIN" and slot.index < smears.rescans]
    return slots + [
        replace(slot, split=SPLITS[(slot.index + 1) % 2], photograph=number, rescan=True)
        for number, slot in enumerate(again, start=len(slots))
    ]


def _file_names(slots: list[Slot], smears: Smears) -> dict[Slot, list[str]]:
    """Deal out the copies' names, which look like the Kaggle set's and say as little of the photograph."""
    names: dict[Slot, list[str]] = {}
    for number, group in enumerate((split, label) for split in SPLITS for label in CLASSES):
        members = [slot for slot in slots if (slot.split, slot.label) == group]
        most = smears.train_photographs if group[0] == "TRAIN" else smears.test_photographs
        files = smears.copies * (most + sum(slot.rescan for slot in members))
        rng = np.random.default_rng([smears.seed, 1, number])
        numbers = rng.choice(max(files, 10_000), size=files, replace=False)
        places = rng.permutation(files) % len(members)
        dealt = [f"_{place}_{number}.jpeg" for place, number in zip(places, numbers, strict=True)]
        ends = np.linspace(0, files, len(members) + 1).astype(int)
        names |= {slot: dealt[i:j] for slot, i, j in zip(members, ends[:-1], ends[1:], strict=True)}
    return names


def _paint_slot(folder: Path, slot: Slot, names: list[str], smears: Smears) -> list[dict[str, Any]]:
    """Paint one photograph and its copies; return their rows of the truth."""
    picture, box = _photograph(slot, smears.seed)
    _write_jpeg(folder / "originals" / f"{slot.name}.jpg", picture)
    rng = _generator(smears.seed, slot, 2 + slot.rescan)
    rows = []
    for name in names:
        path = Path("images", slot.split, slot.label, name)
        copy, (x0, y0, x1, y1) = make_copy(picture, box, STRENGTHS[smears.strength], rng)
        _write_jpeg(folder / path, copy)
        row = {"path": path.as_posix(), "split": slot.split, "label": slot.label}
        row |= {"source": f"cell_{slot.cell:05d}", "photograph": slot.name}
        rows.append(row | {"x0": x0, "y0": y0, "x1": x1, "y1": y1})
    return rows


def _photograph(slot: Slot, seed: int) -> tuple[Pixels, Box]:
    """Paint a slot's photograph; a rescan is another view of the same smear."""
    rng = _generator(seed, slot, 0)
    if not slot.rescan:
        return paint_photograph(slot.label, rng)
    smear = painter.paint_smear(slot.label, rng)
    first, rng = painter.draw_view(rng), _generator(seed, slot, 1)
    return painter.expose(smear, _second_view(first, rng), rng)


def _generator(seed: int, slot: Slot, purpose: int) -> np.random.Generator:
    """One generator for each cell and purpose, so that neither order nor number of the cells matters."""
    side = 0 if slot.rescan else SPLITS.index(slot.split)  # a rescan's cell is one of TRAIN's
    return np.random.default_rng([seed, 0, side, CLASSES.index(slot.label), slot.index, purpose])


def _second_view(first: painter.View, rng: np.random.Generator) -> painter.View:
    """Move the field by 20 to 40 % along one axis, and the focus and the lamp a little."""
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


def _write_jpeg(path: Path, picture: Pixels) -> None:
    """Write an RGB picture; quality 85 gives files of some 10 kB, as in the Kaggle set."""
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise OSError(f"OpenCV cannot encode {path.name}")
    path.write_bytes(data.tobytes())
