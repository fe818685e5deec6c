"""All cells of a folder of pictures with the reader's answers: judged as far as they were not, and as a table."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bloodcell.data.cells import cells_digest
from bloodcell.data.image_paths import base_of, iter_image_paths, relative_to
from bloodcell.data.whole_slides import is_whole_slide
from bloodcell.evaluation.reviews.cell_store import PLACE, CellStore, JudgedCell
from bloodcell.inference.engine import Engine
from bloodcell.inference.ensemble import FIELDS, Ensemble
from bloodcell.inference.fields.choice import chosen_cells, spread
from bloodcell.inference.groups import Group
from bloodcell.inference.predict import grouped, images_given
from bloodcell.inference.prediction_rows import rows_of
from bloodcell.metrics.predictions import PROBABILITY
from bloodcell.runtime import locks
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.io import file_digest
from bloodcell.runtime.version import __version__

Array = np.ndarray[Any, np.dtype[Any]]
#: Side of a cell's small picture, pixels.
SIDE = 112
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Folder:
    """Pictures to review."""

    given: list[str]
    base: str  # the folder that paths in tables are relative to; '': they are as they were given
    files: dict[str, str]  # path as in tables -> file

    def stamps(self) -> dict[str, str]:
        """Return what changes with each picture: size and time of change; '' if it is gone."""
        return {path: _stamp(file) for path, file in self.files.items()}


def folder_of(images: Any) -> Folder:
    """Return the pictures in a folder, or in several.

    Raises:
        BloodcellError: There is none, or one is a whole slide.
    """
    given = images_given(images)
    base, files = base_of(given), {}
    for file in iter_image_paths(given):
        if is_whole_slide(file):
            raise BloodcellError(
                f"{file} is a whole slide, which a review does not show; `differential` counts its cells"
            )
        files[relative_to(file, base).encode(errors="backslashreplace").decode()] = file
    if not files:
        raise BloodcellError(f"no image in images={', '.join(given)}; give a folder of images")
    return Folder(given, base, files)


def _stamp(file: str) -> str:
    try:
        state = Path(file).stat()
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"


@dataclass(frozen=True)
class Cells:
    """The cells of a folder.

    Attributes:
        table: A row for each cell, with the columns of `predict`, by path and number.
        ids: Of the cells in the store.
        features: Of unit length, float16 (N, F).
        digest: Changes with any cell or answer.
        unread: Pictures that cannot be read, with the reason.
    """

    table: pd.DataFrame
    ids: list[int]
    features: Array
    digest: str
    unread: dict[str, str]

    @property
    def of_fields(self) -> bool:
        """Whether a picture may have several cells."""
        return "width" in self.table


class Reader:
    """The classifier that judges the cells of a folder, and the store of its answers.

    Args:
        engines: The classifiers.
        tta: The symmetries to average over; None: those of the training.
        cells: auto, one, all or whole.
        folder: The pictures.
        threshold: Cells of lower confidence are left to a human.
        root: The cache folder.
    """

    def __init__(
        self, engines: list[Engine], tta: str | None, cells: str, folder: Folder, threshold: float, root: Path
    ) -> None:
        files = list(folder.files.values())
        self.cells = chosen_cells(cells, engines, lambda most: spread(iter(files), most, len(files)))
        self.ensemble = Ensemble(engines, tta, self.cells, keeps_views=True)
        self.folder, self.threshold, self.classes = folder, threshold, self.ensemble.classes
        described = {
            "classifiers": [file_digest(one.file) if one.file else "" for one in engines],
            "images": [str(Path(one).absolute()) for one in folder.given],
            "tta": self.ensemble.tta,
            "cells": self.cells,
            "release": __version__,
        }
        if self.ensemble.left_out:
            described["classes"] = self.classes
        if self.cells == "all":
            described["finder"] = cells_digest()
        self.digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
        place = root / "reviews"
        place.mkdir(parents=True, exist_ok=True)
        self.store = CellStore(place / f"{self.digest}.sqlite")

    def judge(self, advance: Advance, threads: int | None = None, stop: Event | None = None) -> None:
        """Judge the pictures that are not judged yet; `advance` is called with the number done and of all.

        Several processes may do so: the second waits, and finds all done.
        """
        stamps = self.folder.stamps()
        if not self._open(stamps):
            return
        with locks.locked(self.store.file.with_suffix(".lock")):
            todo = self._open(stamps)
            done = len(stamps) - len(todo)
            groups = _fields(todo) if self.ensemble.finds_all else grouped(iter(todo), len(todo))
            for group in self.ensemble.predict(self._files(groups), len(todo), threads):
                names = {self.folder.files[path]: path for path in todo[: len(group.given)]}
                todo = todo[len(group.given) :]
                self._keep(group, names, stamps)
                done += len(group.given)
                advance(done, len(stamps))
                if stop and stop.is_set():
                    return

    def _open(self, stamps: dict[str, str]) -> list[str]:
        known = self.store.stamps()
        return [path for path, stamp in stamps.items() if known.get(path) != stamp]

    def _files(self, groups: Iterator[list[str]]) -> Iterator[list[Any]]:
        return ([self.folder.files[path] for path in group] for group in groups)

    def _keep(self, group: Group, names: dict[str, str], stamps: dict[str, str]) -> None:
        reasons = {names[str(file)]: reason for file, reason in group.bad}
        cells = judged_cells(group, self.ensemble.classes, self.threshold)
        pictures = [(path, stamps[path], reasons.get(path, "")) for path in names.values()]
        self.store.add(pictures, (JudgedCell(names[one.path], *_rest(one)) for one in cells))

    def table(self) -> Cells:
        """Return all judged cells of the pictures that are there."""
        rows = [row for row in self.store.rows() if row[1] in self.folder.files]
        shares = np.frombuffer(b"".join(row[-1] for row in rows), np.float32).reshape(len(rows), len(self.classes))
        ids = [row[0] for row in rows]
        table = pd.DataFrame([row[1:-1] for row in rows], columns=["path", *PLACE])
        table = _columns(table, shares.astype(np.float64), self.classes, self.threshold, self.ensemble.finds_all)
        changing = table.drop(columns=["abstained"]).to_csv(index=False).encode(errors="backslashreplace")
        digest = hashlib.sha256(self.digest.encode() + changing).hexdigest()[:16]
        unread = {path: why for path, why in self.store.reasons().items() if path in self.folder.files}
        return Cells(table, ids, self.store.features(ids), digest, unread)


def judged_cells(group: Group, classes: list[str], threshold: float) -> Iterator[JudgedCell]:
    """Yield the cells of a group of an ensemble that keeps views; their paths are the files."""
    rows, _, _ = rows_of(group, classes, threshold)
    features = group.members[0].features
    assert group.views is not None
    assert features is not None
    for row, view, one, shares in zip(rows, group.views, features, group.probabilities, strict=True):
        side = row.get("side")
        width, height = row.get("width", side), row.get("height", side)
        border = row.get("border")
        place = (row.get("number"), row["left"], row["top"], width, height, border, row["unlike"])
        yield JudgedCell(
            str(row["path"]), tuple(None if value == "" else value for value in place), shares, one, _jpeg(view)
        )


def _rest(one: JudgedCell) -> tuple[Any, ...]:
    return one.place, one.probabilities, one.features, one.jpeg


def _fields(paths: Sequence[str]) -> Iterator[list[str]]:
    return (list(paths[start : start + FIELDS]) for start in range(0, len(paths), FIELDS))


def _columns(table: pd.DataFrame, shares: Array, classes: list[str], threshold: float, of_fields: bool) -> pd.DataFrame:
    """Return a table of places with the answers, in the columns of `predict`."""
    best = shares.argmax(axis=1) if len(shares) else np.empty(0, int)
    answers = pd.DataFrame(shares, columns=[PROBABILITY + name for name in classes])
    sure = shares.max(axis=1, initial=0)
    table = table.assign(prediction=np.asarray(classes, object)[best], confidence=sure, abstained=sure < threshold)
    for name in ("border", "unlike"):
        table[name] = table[name].map({0: False, 1: True}).astype(object)
    if table["unlike"].isna().all():
        table = table.drop(columns="unlike")
    if not of_fields:
        table = table.drop(columns=["number", "height", "border"]).rename(columns={"width": "side"})
    return pd.concat([table, answers], axis=1)


def _jpeg(view: Array) -> bytes:
    picture = Image.fromarray(view)
    if max(picture.size) > SIDE:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
