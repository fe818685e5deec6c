"""Features of a frozen backbone, computed once for each image and kept."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloodcell.data.loading import image_loader
from bloodcell.data.samples import Samples, identities
from bloodcell.data.transforms import Preprocessing
from bloodcell.models.backbones import state_digest
from bloodcell.models.net import Net

Progress = Callable[[int, int], None]

#: Images whose features are written to disk together: what an interruption loses at most.
CHUNK = 2048


class FeatureStore:
    """Features on disk, in append-only chunks that several processes may write at once.

    A chunk is one `.npy` file with a `.json` beside it that names each row's file identity and holds a checksum. The
    `.json` is written last and atomically; a chunk without it, or with another checksum, counts as not there.

    Args:
        folder: The folder of one backbone, weights and preprocessing; see `store_for`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where: dict[str, tuple[np.ndarray[Any, Any], int]] = {}
        for index in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            self._open(index)

    def _open(self, index: Path) -> None:
        """Map one chunk into memory, unless it is damaged."""
        try:
            described = json.loads(index.read_text(encoding="utf-8"))
            rows = np.load(index.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            # the checksum is of the values alone; a damaged header may have changed what they mean
            if zlib.crc32(rows.tobytes()) != described["crc32"] or len(rows) != len(described["files"]):
                return
            if rows.dtype != np.float32 or rows.ndim != 2 or not rows.flags.c_contiguous:
                return
        except (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError, ArithmeticError, TokenError):
            return
        self.where.update({name: (rows, row) for row, name in enumerate(described["files"])})

    def get(self, names: list[str]) -> Tensor:
        """Return float32 (N, C) features of files that are all in the store."""
        return torch.from_numpy(np.stack([self.where[name][0][self.where[name][1]] for name in names]))

    def add(self, names: list[str], features: Tensor) -> None:
        """Write one chunk: (N, C) features of N files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = features.numpy()
        chunk = self.folder / f"{uuid.uuid4().hex}.npy"
        np.save(chunk, rows, allow_pickle=False)
        temporary = chunk.with_suffix(f".{os.getpid()}")
        described = {"files": names, "crc32": zlib.crc32(rows.tobytes())}
        temporary.write_text(json.dumps(described), encoding="utf-8")
        temporary.replace(chunk.with_suffix(".json"))
        self._open(chunk.with_suffix(".json"))


def store_for(root: Path, net: Net, preprocessing: Preprocessing, pool: str) -> FeatureStore:
    """Return the store whose key covers all that a feature depends on besides the image."""
    described = {"backbone": state_digest(net.backbone), "normalise": [net.mean.tolist(), net.std.tolist()]}
    key = json.dumps([described, type(net.backbone).__name__, pool, preprocessing.as_dict(), "float32"], sort_keys=True)
    return FeatureStore(root / hashlib.sha256(key.encode()).hexdigest()[:16])


def features_of(
    net: Net,
    samples: Samples,
    preprocessing: Preprocessing,
    store: FeatureStore | None = None,
    device: str = "cpu",
    batch_size: int = 64,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return pooled features (N, C), float32 on the CPU, in the order of the samples.

    Args:
        net: The net; its backbone is used in evaluation mode, and its modes are left as they were.
        samples: The images.
        preprocessing: The evaluation pipeline.
        store: Where features are looked up first and kept; None: nowhere.
        device: Where to compute.
        batch_size: Images at once.
        workers: Processes that decode; None: as the machine has cores.
        progress: Called with the numbers of images done and to do.
    """
    files = samples.files()
    names = identities(files)
    todo = [i for i, name in enumerate(names) if store is None or name not in store.where]
    computed: list[Tensor] = []
    loader = image_loader([files[i] for i in todo], preprocessing, batch_size, workers)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    modes = [(module, module.training) for module in net.backbone.modules()]
    net.backbone.eval()  # not the head: Lightning trains each module in the mode that it finds, dropout too
    pending, start = 0, 0
    with torch.inference_mode():
        for images in loader:
            features = net.features(images.to(device)).float().cpu()
            computed.append(features)
            pending += len(features)
            if store is not None and (pending >= CHUNK or start + pending == len(todo)):
                store.add([names[i] for i in todo[start : start + pending]], torch.cat(computed))
                computed, start, pending = [], start + pending, 0
            if progress:
                progress(start + pending, len(todo))
    for module, training in modes:
        module.training = training
    if store is not None and names:
        return store.get(names)
    return torch.cat(computed) if computed else torch.empty(0, net.width)


def probabilities_of(net: Net, features: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return softmax probabilities (N, classes), float64, of pooled features (N, C)."""
    head = net.head.to("cpu").eval()
    with torch.inference_mode():
        logits = torch.cat([head(part) for part in torch.split(features, 4096)]) if len(features) else torch.empty(0, 1)
    return torch.softmax(logits.double(), dim=1).numpy()
