"""Features of a backbone that does not learn: computed once for each image, and kept."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloodcell.data.augment import Augment
from bloodcell.data.decoding import decode, in_order
from bloodcell.data.samples import Samples, identities
from bloodcell.data.transforms import Preprocessing
from bloodcell.errors import BloodcellError
from bloodcell.files import write_json
from bloodcell.machine import available_memory, cpu_count
from bloodcell.models.backbones import state_digest
from bloodcell.models.forward import Engine, Forward
from bloodcell.models.net import Net
from bloodcell.models.store import FeatureStore, StoredRows

Array = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], None]
Rows = Tensor | StoredRows

#: Images whose features are written to disk together: what an interruption loses at most.
CHUNK = 2048
#: Images that a thread decodes before they pass the backbone in turn: to and fro after each few, code and data of the
#: one displace the other's from the caches (measured: 4 % of the rate).
GROUP = 64
#: Rows that pass the head at once.
HEAD_ROWS = 4096


class Extractor:
    """Passes images through a net's backbone, each but once where the features are kept.

    Args:
        net: The net, in the state whose features are wanted.
        preprocessing: The evaluation pipeline.
        root: Where features are kept, in a folder for each net, preprocessing and backend; None: nowhere.
        device: Where to compute.
        workers: Threads that decode; None: as the machine has cores.
        backend: See `Engine`.
        precision: See `Engine`.
    """

    def __init__(
        self,
        net: Net,
        preprocessing: Preprocessing,
        root: Path | None = None,
        device: str = "cpu",
        workers: int | None = None,
        backend: str = "auto",
        precision: str = "float32",
    ) -> None:
        self.net, self.preprocessing, self.root = net, preprocessing, root
        self.threads = cpu_count() if workers is None else max(1, workers)
        self.engine = Engine(net, preprocessing.image_size, backend, precision, device)

    def described(self) -> dict[str, Any]:
        """Return all that a feature depends on besides the image; the head and its training are no part of it."""
        return {
            "model": self.net.name,
            "weights": state_digest(self.net.backbone),
            "mean": self.net.mean.flatten().tolist(),
            "std": self.net.std.flatten().tolist(),
            "pool": str(self.net.pool),
            "preprocessing": self.preprocessing.as_dict(),
            "backend": self.engine.name,
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
                raise BloodcellError(
                    f"no folder can be made below {self.root}; choose another features.root"
                ) from error
            write_json(self.described(), folder / "about.json")
        return FeatureStore(folder)

    def features(self, samples: Samples, progress: Progress | None = None, view: View | None = None) -> Rows:
        """Return pooled features, float32 (N, C), in the order of the samples.

        Args:
            samples: The images.
            progress: Called with the numbers of images done and to do.
            view: Change each image like this before it passes the backbone; None: as it is.

        Raises:
            BloodcellError: An image cannot be read.
        """
        files = samples.paths()
        if self.root is None:
            parts = list(self._batches(files, progress, view))
            return torch.from_numpy(np.concatenate(parts)) if parts else torch.empty(0, self.net.width)
        names = [f"{name}{view.name if view else ''}" for name in identities(files)]
        store, before = self.store(), self.engine.name
        places = store.places(names)
        if (places < 0).any() and self.engine.forward().name != before:
            store = self.store()  # the engine fell back on another backend, which has a store of its own
            places = store.places(names)
        if len(todo := np.flatnonzero(places < 0)):
            start = 0
            for chunk in _joined(self._batches([files[i] for i in todo], progress, view), CHUNK):
                store.add([names[i] for i in todo[start : start + len(chunk)]], chunk)
                start += len(chunk)
            places = store.places(names)
        if (places < 0).any():
            raise BloodcellError(f"{store.folder}: features that were just written cannot be read; is the disk sound?")
        return store.rows(places) if len(places) else torch.empty(0, self.net.width)

    def probabilities(self, samples: Samples, progress: Progress | None = None) -> Array:
        """Return softmax probabilities, float64 (N, classes), in the order of the samples; see `features`."""
        if self.root is not None:
            return probabilities_of(self.net, self.features(samples, progress))
        blocks = _joined(self._batches(samples.paths(), progress, None), HEAD_ROWS)
        parts = [probabilities_of(self.net, torch.from_numpy(block)) for block in blocks]
        return np.concatenate(parts) if parts else np.empty((0, 0))

    def _batches(self, files: Sequence[str], progress: Progress | None, view: View | None) -> Iterator[Array]:
        """Yield features of the files in order, float32 (n, C)."""
        if not files:
            return
        forward = self.engine.forward()
        groups = [files[start : start + GROUP] for start in range(0, len(files), GROUP)]

        def read(group: Sequence[str]) -> Array:
            images = decode(group, self.preprocessing)
            return view(images, group) if view else images

        done = 0
        for features in _computed(forward, read, groups, self.threads):
            done += len(features)
            if progress:
                progress(done, len(files))
            yield features


class View:
    """One of several fixed random changes of each image.

    Args:
        augment: The random change.
        number: Which view, from 0.
    """

    def __init__(self, augment: Augment, number: int) -> None:
        self.augment, self.number = augment, number
        key = hashlib.sha256(json.dumps(augment.as_dict(), sort_keys=True).encode()).hexdigest()[:16]
        self.name = f"|view {number} of {key}"

    def __call__(self, images: Array, files: Sequence[str]) -> Array:
        """Return the changed images, uint8 (N, H, W, 3); each change follows from file name and view alone."""
        changed = np.empty_like(images)
        for row, image, file in zip(changed, images, files, strict=True):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{Path(file).name}{self.name}".encode()))
            result = self.augment(torch.from_numpy(image).permute(2, 0, 1)[None], generator)
            row[:] = (result[0].permute(1, 2, 0) * 255).round().numpy()
        return changed


def _computed(forward: Forward, read: Callable[[Any], Array], groups: list[Any], threads: int) -> Iterator[Array]:
    """Yield the features of each group of images in order; decoding overlaps the forward pass."""

    def run(images: Array) -> Array:
        starts = range(0, len(images), forward.batch)
        return np.concatenate([forward.run(images[start : start + forward.batch]) for start in starts])

    if forward.streams > 1:
        yield from in_order(lambda group: run(read(group)), groups, min(threads, forward.streams))
    else:
        yield from map(run, in_order(read, groups, threads))


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
    """Return rows as one tensor where that takes at most a quarter of the free memory, else unread as they are."""
    if isinstance(rows, StoredRows) and rows.shape[0] * rows.shape[1] * 4 <= available_memory() // 4:
        return rows[:]
    return rows


def probabilities_of(net: Net, features: Rows) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return softmax probabilities (N, classes), float64, of pooled features (N, C)."""
    head = net.head.to("cpu").eval()
    starts = range(0, len(features), HEAD_ROWS)
    with torch.inference_mode():
        logits = torch.cat([head(features[start : start + HEAD_ROWS]) for start in starts] or [torch.empty(0, 1)])
    return torch.softmax(logits.double(), dim=1).numpy()
