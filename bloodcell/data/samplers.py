"""Which images an epoch trains on, and in what order: a function of seed and epoch alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Sampler

Indices = np.ndarray[Any, np.dtype[np.int64]]

#: The golden ratio: its multiples, modulo 1, fill the interval evenly however many are taken.
_GOLDEN = (5**0.5 - 1) / 2


class EpochSampler(Sampler[int]):
    """An order of images that follows from seed and epoch alone, so that a resumed run repeats it.

    Args:
        size: Images an epoch.
        seed: Of the run.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this as each one starts."""
        self.epoch = epoch

    @abstractmethod
    def order(self) -> Tensor:
        """Return the epoch's positions, int64 (size,)."""

    def __len__(self) -> int:
        """Return the number of images of an epoch."""
        return self.size

    def __iter__(self) -> Iterator[int]:
        """Yield the epoch's positions."""
        yield from self.order().tolist()


class EpochShuffle(EpochSampler):
    """Every image once before any comes twice, in an order that is drawn anew each time.

    Args:
        count: Number of images.
        seed: Of the run.
        size: Images an epoch: the next ones of a permutation that goes on from epoch to epoch; None: `count`.
    """

    def __init__(self, count: int, seed: int, size: int | None = None) -> None:
        super().__init__(count if size is None else size, seed)
        self.count = count

    def order(self) -> Tensor:
        """Return the epoch's positions, int64 (size,); with as many as there are images a permutation."""
        start = self.epoch * self.size
        first = start // max(1, self.count)
        passes = range(first, -(-(start + self.size) // max(1, self.count)))
        permutations = torch.cat([torch.empty(0, dtype=torch.int64), *map(self._permutation, passes)])
        return permutations[start - first * self.count :][: self.size]

    def _permutation(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        return torch.randperm(self.count, generator=generator)


class BalancedDraw(EpochSampler):
    """Draws a set, then a class of it, then a source of that, then an image of that.

    The draw is systematic: each epoch has each class's share of each set exactly, up to rounding. Within a class of a
    set every source comes once before any comes twice, and so do the images of a source. An image of unknown source
    is a source of its own. All that goes on from epoch to epoch.

    Args:
        table: The training rows of a samples table.
        seed: Of the run.
        balance: 1: sets, and classes of a set, have equal shares. 0: shares are as the numbers of sources; between,
            as their power of 1 - balance.
        size: Images an epoch; None: as many as there are rows.
    """

    def __init__(self, table: pd.DataFrame, seed: int, balance: float = 1.0, size: int | None = None) -> None:
        super().__init__(len(table) if size is None else size, seed)
        shuffled = self._generator().permutation(len(table))  # so that a source shows its images in random order
        alone = table["path"].where(table["source"] == "", "")
        rows = table.assign(alone=alone, row=np.arange(len(table))).iloc[shuffled]
        cells = dict(list(rows.groupby(["set", "label"])))
        #: For each class of each set, the rows of each source.
        self.cells = [_by_source(cell) for cell in cells.values()]
        shares = _shares([name for name, _ in cells], [len(cell) for cell in self.cells], balance)
        self.edges = np.concatenate([[0.0], np.cumsum(shares)[:-1], [1.0]])

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**63, *key])

    def counts(self) -> Indices:
        """Return how many images of each class of each set every epoch up to this one has, int64 (epochs, cells)."""
        offset = (0.5 + _GOLDEN * np.arange(self.epoch + 1)) % 1
        below = np.ceil(self.size * self.edges - offset[:, None])  # points (i + offset) / size below each edge
        return np.asarray(np.diff(below, axis=1), dtype=np.int64)

    def order(self) -> Tensor:
        """Return the epoch's positions, int64 (size,)."""
        counts = self.counts()
        starts = counts[:-1].sum(axis=0)
        drawn = [self._of_cell(cell, int(starts[cell]), int(count)) for cell, count in enumerate(counts[-1])]
        order = self._generator(0, self.epoch).permutation(np.concatenate(drawn))
        return torch.from_numpy(order)

    def _of_cell(self, cell: int, start: int, count: int) -> Indices:
        """Return the next rows of one class of one set, after `start` of earlier epochs, int64 (count,)."""
        sources = self.cells[cell]
        rows = []
        for turn in range(start // len(sources), -(-(start + count) // len(sources))):
            turns = self._generator(1, cell, turn).permutation(len(sources))
            rows += [sources[i][turn % len(sources[i])] for i in turns]
        return np.array(rows, dtype=np.int64)[start % len(sources) :][:count]


def _by_source(rows: pd.DataFrame) -> list[Indices]:
    """Return the column row of each source in turn, an image of unknown source being alone."""
    number = rows.groupby(["source", "alone"]).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    return np.split(rows["row"].to_numpy()[order], np.flatnonzero(np.diff(number[order])) + 1)


def _shares(sets: list[str], sources: list[int], balance: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the share of each class of each set, summing to 1.

    Args:
        sets: The set of each.
        sources: The number of sources of each.
        balance: See `BalancedDraw`.
    """
    _, of = np.unique(sets, return_inverse=True)
    count = np.array(sources, dtype=float)
    class_weight, set_weight = count ** (1 - balance), np.bincount(of, count) ** (1 - balance)
    share = class_weight / np.bincount(of, class_weight)[of] * set_weight[of] / set_weight.sum()
    return np.asarray(share, dtype=np.float64)


def build_sampler(
    table: pd.DataFrame, seed: int, sampling: str = "files", balance: float = 1.0, epoch_size: int | None = None
) -> EpochSampler:
    """Return the sampler of the training rows.

    Args:
        table: The training rows of a samples table.
        seed: Of the run.
        sampling: `data.sampling`: files or balanced.
        balance: `data.balance`, 0 to 1.
        epoch_size: `data.epoch_size`, 1 or more; None: as many as there are rows.
    """
    if sampling == "files":
        return EpochShuffle(len(table), seed, epoch_size)
    return BalancedDraw(table, seed, balance, epoch_size)
