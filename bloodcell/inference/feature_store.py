"""The store of features on disk: append-only, each chunk verified before it is used."""

from __future__ import annotations

import json
import os
import uuid
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloodcell.runtime.io import read_json

Array = np.ndarray[Any, np.dtype[Any]]

#: Rows of the largest chunk; a place in the store is one number, chunk * ROWS + row.
ROWS = 2**20
_BLOCK = 2**20  # bytes to read at once
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError, ArithmeticError, TokenError)


class FeatureStore:
    """Features of one backbone on disk, in append-only chunks that several processes may write at once.

    A chunk is one `.npy` file and a `.json` with the file identity of each row and a checksum. The `.json` is written
    last and atomically. The checksum is verified at the first use of the chunk; a chunk that is damaged or has no
    `.json` is ignored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chunks: list[Path] = []
        self.names: list[list[str]] = []  # of each chunk's rows; empty if the chunk is damaged
        self.place_of: dict[str, int] = {}
        self.sound: dict[int, Array | None] = {}  # verified chunks; None: damaged
        for index in sorted(folder.glob("chunk-*.json")) if folder.is_dir() else []:
            self._register(index.with_suffix(".npy"), _names(index))

    def _register(self, chunk: Path, names: list[str]) -> None:
        self.chunks.append(chunk)
        self.names.append(names)
        self._place(len(self.chunks) - 1)

    def _place(self, number: int) -> None:
        self.place_of.update({name: number * ROWS + row for row, name in enumerate(self.names[number])})

    def places(self, names: list[str]) -> Array:
        """Return each name's place, int64 (N,); -1 if it is not in the store or its chunk is damaged."""
        while True:
            found = np.array([self.place_of.get(name, -1) for name in names], np.int64)
            damaged = [int(n) for n in np.unique(found[found >= 0] // ROWS) if self._rows(int(n)) is None]
            if not damaged:
                return found
            for number in damaged:
                self.names[number] = []
            self.place_of.clear()  # another chunk may have the same names
            for number in range(len(self.chunks)):
                self._place(number)

    def rows(self, places: Array) -> StoredRows:
        """Return the features at some places, all of them valid."""
        return StoredRows({int(n): self._rows(int(n)) for n in np.unique(places // ROWS)}, places)

    def add(self, names: list[str], features: Array) -> None:
        """Write one chunk: float32 (N, C) features of N files.

        Raises:
            OSError: The disk is full, or cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = np.ascontiguousarray(features, dtype=np.float32)
        chunk = self.folder / f"chunk-{uuid.uuid4().hex}.npy"
        index = chunk.with_suffix(".json")
        part = chunk.with_suffix(f".{os.getpid()}")
        try:
            with chunk.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
                file.write(rows.data)  # not numpy's writer, which hides the reason when the disk is full
            part.write_text(json.dumps({"files": names, "crc32": zlib.crc32(rows.data)}), encoding="utf-8")
            part.replace(index)
        except BaseException:
            for path in (chunk, part, index):
                path.unlink(missing_ok=True)
            raise
        self._register(chunk, names)

    def _rows(self, number: int) -> Array | None:
        if number not in self.sound:
            self.sound[number] = _open(self.chunks[number])
        return self.sound[number]


class StoredRows:
    """Rows at some places, int64 (N,), of a store's chunks, float32 (n, C), mapped into memory and read lazily."""

    def __init__(self, chunks: dict[int, Array | None], places: Array) -> None:
        self.chunks, self.places = chunks, places
        self.width = next((rows.shape[1] for rows in chunks.values() if rows is not None), 0)
        self.shape, self.ndim = (len(places), self.width), 2

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: Any) -> Tensor:
        """Return float32 (n, C): rows at positions or of a slice or mask."""
        places = self.places[np.asarray(chosen) if isinstance(chosen, Tensor) else chosen]
        result = np.empty((len(places), self.width), np.float32)
        numbers = places // ROWS
        for number in np.unique(numbers):
            here, rows = numbers == number, self.chunks[int(number)]
            assert rows is not None
            result[here] = rows[places[here] % ROWS]
        return torch.from_numpy(result)

    def columns(self, chosen: slice) -> StoredRows:
        """Return some columns of these rows, unread."""
        chunks = {number: None if rows is None else rows[:, chosen] for number, rows in self.chunks.items()}
        return StoredRows(chunks, self.places)

    def at(self, chosen: Array) -> StoredRows:
        """Return the rows at positions, int64 (M,), unread."""
        return StoredRows(self.chunks, self.places[chosen])

    def followed_by(self, others: list[StoredRows]) -> StoredRows:
        """Return these rows and then those of others, unread; every store numbers its chunks from 0."""
        places, chunks = [self.places], dict(self.chunks)
        for other in others:
            first = max(chunks, default=-1) + 1
            places.append(other.places + first * ROWS)
            chunks |= {first + number: rows for number, rows in other.chunks.items()}
        return StoredRows(chunks, np.concatenate(places))


def _names(index: Path) -> list[str]:
    try:
        names = read_json(index)["files"]
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
    except _DAMAGED:
        return []


def _open(chunk: Path) -> Array | None:
    """Map a chunk into memory if its values are those that were written, else return None."""
    try:
        described = read_json(chunk.with_suffix(".json"))
        rows = np.load(chunk, mmap_mode="r", allow_pickle=False)
        # The checksum is of the values alone; a damaged header may have changed what they mean.
        shaped = rows.dtype == np.float32 and rows.ndim == 2 and rows.flags.c_contiguous
        whole = rows.offset + rows.nbytes == chunk.stat().st_size and len(rows) == len(described["files"])
        sound = shaped and whole and _checksum(chunk, rows.nbytes) == described["crc32"]
        return np.asarray(rows) if sound else None
    except _DAMAGED:
        return None


def _checksum(chunk: Path, size: int) -> int:
    """Return the CRC-32 of a file's last `size` bytes, read in blocks: mapped, they would count as memory in use."""
    total = 0
    with chunk.open("rb") as file:
        file.seek(chunk.stat().st_size - size)
        while block := file.read(_BLOCK):
            total = zlib.crc32(block, total)
    return total
