"""The views that the cell finder learns from: kept in a folder, as they take as long to make as a step, and varied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from bloodcell.data.annotated_fields import AnnotatedField
from bloodcell.data.cells import STRIDE
from bloodcell.data.field_views import SIDE, view
from bloodcell.data.finder_input import normalised
from bloodcell.data.images import Pixels
from bloodcell.models.finder_net import targets
from bloodcell.runtime.console import progress

Floats = NDArray[np.float32]
Rng = np.random.Generator
#: Draws a view and its cells; see `bloodcell.data.field_views.view`.
Views = Callable[[Rng], tuple[Pixels, Floats]]
#: Views in a step.
BATCH = 12


@dataclass(frozen=True)
class KeptViews:
    """Views of one laboratory, uint8 (N, SIDE, SIDE, 3), in a file, and the cells of all: number of the view, cell."""

    images: NDArray[np.uint8]
    boxes: Floats

    def __call__(self, rng: Rng) -> tuple[Pixels, Floats]:
        """Draw a view, turned and mirrored, half of the time in a little other light."""
        number = int(rng.integers(len(self.images)))
        image, boxes = np.asarray(self.images[number]), self.boxes[self.boxes[:, 0] == number, 1:]
        if rng.random() < 0.5:
            image, boxes = image[:, ::-1], boxes * (-1, 1, 1, 1) + (SIDE, 0, 0, 0)
        if rng.random() < 0.5:
            image, boxes = image[::-1], boxes * (1, -1, 1, 1) + (0, SIDE, 0, 0)
        if rng.random() < 0.5:
            image, boxes = image.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
        image = np.ascontiguousarray(image)
        return (_relit(image, rng) if rng.random() < 0.5 else image), np.asarray(boxes, np.float32)


def _relit(image: Pixels, rng: Rng) -> Pixels:
    """Change gamma, and mix the channels a little."""
    levels = 255 * np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.3, 0.3))
    mixed = np.eye(3) + rng.normal(0, 0.08, (3, 3))
    return np.asarray(cv2.transform(cv2.LUT(image, levels.astype(np.uint8)), mixed), np.uint8)


def views_of(
    laboratories: Sequence[Sequence[AnnotatedField]], names: Sequence[str], folder: Path | None, number: int, seed: int
) -> list[Views]:
    """Return what draws the views of each laboratory: new ones, or `number` of them that are kept in a folder.

    Those that the folder has by the laboratory's name are not made again.
    """
    if folder is None:
        return [partial(view, fields) for fields in laboratories]
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}_{number}_{seed}.npy" for name in names]
    with progress("views") as advance:
        for place, (fields, file) in enumerate(zip(laboratories, files, strict=True), 1):
            if not _cells_of(file).exists():
                _keep(fields, file, number, [seed, place])
            advance(place, len(files))
    return [KeptViews(np.load(file, mmap_mode="r"), np.load(_cells_of(file))) for file in files]


def _cells_of(file: Path) -> Path:
    return file.with_name(f"{file.stem}_cells.npy")


def _keep(fields: Sequence[AnnotatedField], file: Path, number: int, seed: list[int]) -> None:
    """Write views to a file, and, when it is complete, their cells to another."""
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (number, SIDE, SIDE, 3))
    cells = [np.empty((0, 5), np.float32)]
    for one in range(number):
        images[one], boxes = view(fields, np.random.default_rng([*seed, one]))
        cells.append(np.insert(boxes, 0, one, axis=1))
    images.flush()
    np.save(_cells_of(file), np.concatenate(cells))


class Batches(Dataset[list[Tensor]]):
    """Batches by their numbers: views as the net sees them, float32 (N, 3, SIDE, SIDE), and their targets.

    They begin at the step after `done`.
    """

    def __init__(self, views: Sequence[Views], number: int, seed: int, done: int = 0) -> None:
        self.views, self.number, self.seed, self.done = views, number, seed, done

    def __len__(self) -> int:
        return self.number - self.done

    def __getitem__(self, number: int) -> list[Tensor]:
        rng, items = np.random.default_rng([self.seed, self.done + number]), []
        for _ in range(BATCH):
            image, boxes = self.views[int(rng.integers(len(self.views)))](rng)
            seen = torch.from_numpy(normalised(image)).permute(2, 0, 1)
            items.append((seen, *targets(torch.from_numpy(boxes), SIDE // STRIDE, SIDE // STRIDE)))
        return [torch.stack(parts) for parts in zip(*items, strict=True)]
