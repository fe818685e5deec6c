"""Pooled features of a frozen backbone: computed once for each image, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bloodcell.data.augment import Augment
from bloodcell.data.decoder import decode, read_and_compute
from bloodcell.data.one_cell import finder_digest
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import Samples, contents
from bloodcell.inference.backends import Backbone, Forward
from bloodcell.inference.feature_store import FeatureStore, StoredRows
from bloodcell.inference.tta import IDENTITY, Symmetry
from bloodcell.models.backbones import state_digest
from bloodcell.models.net import Net
from bloodcell.runtime import distributed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.hardware import available_memory, decoders
from bloodcell.runtime.io import write_json
from bloodcell.runtime.schema.data import FeaturesConfig

Array = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], None]
Rows = Tensor | StoredRows
Item = TypeVar("Item")
Decoded = tuple[Array, list[str]]  # images, and for each whether its cell was found

#: Rows to write to disk at once; an interruption loses no more.
CHUNK = 2048
#: Images times views that a thread decodes before they pass the backbone: with smaller groups, decoding and backbone
#: push each other out of the processor's cache (measured: 4 % of the rate).
GROUP = 64
HEAD_ROWS = 4096


class Extractor:
    """Passes images through a net's backbone, each only once if the features are kept.

    If the preprocessing looks for the cell, a last column holds 1 if the cell was found, else 0.

    Args:
        net: The net; it must not change.
        preprocessing: The evaluation pipeline.
        backbone: The forward pass of the net.
        root: The folder of all kept features; None: features are not kept.
        workers: Decoding threads; None: one per core.
    """

    def __init__(
        self, net: Net, preprocessing: Preprocessing, backbone: Backbone, root: Path | None, workers: int | None = None
    ) -> None:
        self.net, self.preprocessing, self.backbone, self.root = net, preprocessing, backbone, root
        self.columns = net.width + preprocessing.crops_cell
        self.threads = decoders(workers)

    def described(self) -> dict[str, Any]:
        """Return all that a feature depends on besides the image."""
        finder = finder_digest(self.preprocessing.finder)
        return {
            "model": self.net.name,
            "weights": state_digest(self.net.backbone),
            "mean": self.net.mean.flatten().tolist(),
            "std": self.net.std.flatten().tolist(),
            "pool": str(self.net.pool),
            **({} if self.net.blurring is None else {"blur": self.net.blur}),
            "preprocessing": self.preprocessing.of_whole_images().as_dict(),
            "backend": self.backbone.name,
            # the features depend on what finds the cell
            **({"last column": "cell", "cell finder": finder} if self.preprocessing.crops_cell else {}),
        }

    def store(self) -> FeatureStore:
        """Return the store of this net, preprocessing and backend."""
        assert self.root is not None
        described = json.dumps(self.described(), sort_keys=True)
        folder = self.root / hashlib.sha256(described.encode()).hexdigest()[:16]
        if not (folder / "about.json").is_file():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
                reason = f"no folder can be made below {self.root}; choose another features.root"
                raise BloodcellError(reason) from error
            write_json(self.described(), folder / "about.json")
        return FeatureStore(folder)

    def features(self, samples: Samples, progress: Progress | None = None, view: View | None = None) -> Rows:
        """Return the features of one view, float32 (N, C), without a change by default; see `rows`."""
        (rows,), _ = self.rows(samples, (view or IDENTITY,), progress)
        return rows

    def rows(self, samples: Samples, views: Views, progress: Progress | None = None) -> tuple[list[Rows], list[str]]:
        """Return the features of each view, float32 (N, C), and for each image whether its cell was found.

        Args:
            samples: The images.
            views: The changes of each image, which is decoded once for all.
            progress: Called with the number of images done and the total.

        Raises:
            BloodcellError: An image cannot be read.
        """
        rows = self._rows(samples, views, progress)
        if not self.preprocessing.crops_cell:
            return rows, [""] * len(samples.table)
        found = _columns(rows[0], slice(self.net.width, None))[:]
        cells = ["found" if one else "none" for one in found.flatten().tolist()]
        return [_columns(one, slice(self.net.width)) for one in rows], cells

    def _rows(self, samples: Samples, views: Views, progress: Progress | None) -> list[Rows]:
        """Return the rows of each view, float32 (N, columns)."""
        files = samples.paths()
        if self.root is None:
            parts = list(self._batches(files, views, progress))
            joined = np.concatenate(parts) if parts else np.empty((0, len(views), self.columns), np.float32)
            return list(torch.from_numpy(joined).unbind(1))
        known = contents(samples)
        names = [[f"{name}{view.name}" for name in known] for view in views]
        store, places = self._stored(names)
        if any(distributed.gather(bool((places < 0).any()))):
            before = self.backbone.name
            if self.backbone.forward().name != before:  # it fell back to a backend with another store
                store, places = self._stored(names)
            todo, lacking = distributed.once(
                lambda: [np.flatnonzero((places < 0).any(axis=axis)).tolist() for axis in (0, 1)]
            )
            if todo:
                once_each = sorted({known[i]: i for i in reversed(todo)}.values())  # files of one content have one row
                named = [(files[i], known[i], [names[v][i] for v in lacking]) for i in once_each]
                self._write(store, named, [views[v] for v in lacking], progress)
            distributed.barrier()

            def complete() -> bool:
                nonlocal store, places
                store, places = self._stored(names)
                return bool((places >= 0).all())

            if not distributed.until(complete):
                failure = "features that were just written cannot be read"
                raise BloodcellError(f"{store.folder}: {failure}; is the disk sound, and the same for all processes?")
        return [store.rows(of_view) if len(files) else torch.empty(0, self.columns) for of_view in places]

    def _stored(self, names: list[list[str]]) -> tuple[FeatureStore, Array]:
        """Return the store, and the place of each view's names, int64 (views, N); -1: not in the store."""
        store = self.store()
        return store, np.stack([store.places(of_view) for of_view in names])

    def _write(
        self, store: FeatureStore, named: list[tuple[str, str, list[str]]], views: Views, progress: Progress | None
    ) -> None:
        """Write this process's share of the rows of some files, each with its content and the names of its views."""
        mine = [one for group in distributed.share(_groups(named, len(views))) for one in group]
        left = iter(mine)
        images = [(file, content) for file, content, _ in mine]
        rows = self._own(self.backbone.forward(), images, views, progress)
        for chunk in _joined(rows, max(1, CHUNK // len(views))):
            written = islice(left, len(chunk))
            store.add([name for *_, names in written for name in names], chunk.reshape(-1, self.columns))

    def _batches(self, files: Sequence[str], views: Views, progress: Progress | None) -> Iterator[Array]:
        """Yield the rows of the files in order, float32 (n, views, columns), whichever process computes them."""
        if not files:
            return
        groups, forward = _groups(files, len(views)), self.backbone.forward(len(files) * len(views))
        mine = [(file, file) for group in distributed.share(groups) for file in group]
        yield from distributed.in_turn(self._own(forward, mine, views, progress))

    def _own(
        self, forward: Forward, named: Sequence[tuple[str, str]], views: Views, progress: Progress | None
    ) -> Iterator[Array]:
        """Yield the rows of files, each with its content, in order, float32 (n, views, columns), by this process."""
        groups = _groups(named, len(views))

        def read(group: Sequence[tuple[str, str]]) -> Decoded:
            images, cells = decode([file for file, _ in group], self.preprocessing)
            seen = [view(images, [content for _, content in group]) for view in views]
            return np.concatenate(seen) if len(seen) > 1 else seen[0], cells

        def compute(decoded: Decoded) -> Decoded:
            return forward.all(decoded[0]), decoded[1]

        done = 0
        for features, cells in read_and_compute(read, compute, groups, self.threads, forward.streams):
            rows = np.empty((len(cells), len(views), self.columns), np.float32)
            rows[..., : self.net.width] = features.reshape(len(views), len(cells), -1).swapaxes(0, 1)
            rows[..., self.net.width :] = np.array([cell == "found" for cell in cells])[:, None, None]
            done += len(cells)
            if progress:
                progress(done, len(named))
            yield rows


class View:
    """One of several fixed random changes of each image; their numbers begin with 0."""

    def __init__(self, augment: Augment, number: int) -> None:
        self.augment, self.number = augment, number
        key = hashlib.sha256(json.dumps(augment.as_dict(), sort_keys=True).encode()).hexdigest()[:16]
        self.name = f"|view {number} of {key}"

    def __call__(self, images: Array, contents: Sequence[str]) -> Array:
        """Return the changed images, uint8 (N, H, W, 3); each change depends on file content and view alone."""
        changed = np.empty_like(images)
        for row, image, content in zip(changed, images, contents, strict=True):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{content}{self.name}".encode()))
            result = self.augment(torch.from_numpy(image).permute(2, 0, 1)[None], generator)
            row[:] = (result[0].permute(1, 2, 0) * 255).round().numpy()
        return changed


Views = Sequence[View | Symmetry]


def _groups(items: Sequence[Item], views: int) -> list[Sequence[Item]]:
    step = max(1, GROUP // views)
    return [items[start : start + step] for start in range(0, len(items), step)]


def _columns(rows: Rows, chosen: slice) -> Rows:
    return rows[:, chosen] if isinstance(rows, Tensor) else rows.columns(chosen)


def _joined(parts: Iterator[Array], rows: int) -> Iterator[Array]:
    """Yield arrays joined to at least `rows` rows; the last one may be shorter."""
    held: list[Array] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= rows:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def in_memory(rows: Rows) -> Rows:
    """Return rows as one tensor if that takes at most a quarter of the free memory, else leave them on disk."""
    if isinstance(rows, StoredRows) and rows.shape[0] * rows.shape[1] * 4 <= available_memory() // 4:
        return rows[:]
    return rows


def probabilities_of(net: Net, features: Rows) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return probabilities at temperature 1, float64 (N, classes), of pooled features (N, C)."""
    head = net.head.to("cpu").eval()
    starts = range(0, len(features), HEAD_ROWS)
    with torch.inference_mode():
        logits = torch.cat([head(features[start : start + HEAD_ROWS]) for start in starts] or [torch.empty(0, 1)])
    return torch.softmax(logits.double(), dim=1).numpy()


def features_root(features: FeaturesConfig, cache: Path, frozen: bool, augmented: bool = False) -> Path | None:
    """Return the folder in which the features of a net are kept, by default below the cache root; None: they are not.

    Raises:
        BloodcellError: Features are to be kept, but the backbone learns or images change.
    """
    return Path(features.root or cache / "features") if features.keeps(frozen, augmented) else None
