"""Samplers: the images of an epoch and their order, determined by seed and epoch only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from bloodcell.runtime.schema.data import DataConfig

Indices = NDArray[np.int64]

#: The golden ratio: its multiples, modulo 1, fill the interval evenly, however many are used.
_GOLDEN = (5**0.5 - 1) / 2


class EpochSampler(Sampler[int]):
    """An order of `size` images per epoch that depends on seed and epoch only, so that a resumed run repeats it."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self.repeats = False  # every epoch is like the first

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this at the start of each epoch."""
        self.epoch = 0 if self.repeats else epoch

    @abstractmethod
    def order(self) -> Tensor:
        """Return the epoch's positions, int64 (size,)."""

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        yield from self.order().tolist()


class ShuffleSampler(EpochSampler):
    """Uses each of `count` images once before any image is used twice, in random order.

    With another epoch size than `count`, the permutations of all images continue from epoch to epoch.
    """

    def __init__(self, count: int, seed: int, size: int | None = None) -> None:
        super().__init__(count if size is None else size, seed)
        self.count = count

    def order(self) -> Tensor:
        """Return the epoch's positions, int64 (size,)."""
        start = self.epoch * self.size
        first = start // max(1, self.count)
        passes = range(first, -(-(start + self.size) // max(1, self.count)))
        generators = [torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63) for number in passes]
        permutations = [torch.randperm(self.count, generator=generator) for generator in generators]
        return torch.cat([torch.empty(0, dtype=torch.int64), *permutations])[start - first * self.count :][: self.size]


class BalancedSampler(EpochSampler):
    """Draws a data set, then one of its classes, then a source of that class, then an image of that source.

    An image of unknown source is a source of its own. The drawing is systematic: in every epoch each class of a set has
    its exact share, up to rounding. Every source of a class is used once before any is used twice, and so are the
    images of a source. All of this continues from epoch to epoch.

    Args:
        table: The training rows of a samples table.
        seed: The run's seed.
        balance: 1: sets, and classes in a set, have equal shares. 0: shares are proportional to the numbers of sources.
            Between: proportional to those numbers to the power of 1 - balance.
        size: Images per epoch; None: the number of rows.
    """

    def __init__(self, table: pd.DataFrame, seed: int, balance: float = 1.0, size: int | None = None) -> None:
        super().__init__(len(table) if size is None else size, seed)
        shuffled = self._generator().permutation(len(table))  # so that a source shows its images in random order
        alone = table["path"].where(table["source"] == "", "")
        rows = table.assign(alone=alone, row=np.arange(len(table))).iloc[shuffled]
        strata = dict(list(rows.groupby(["set", "label"])))
        #: For each stratum (a class of a data set), the rows of each source.
        self.strata = [_by_source(stratum) for stratum in strata.values()]
        shares = _shares([name for name, _ in strata], [len(sources) for sources in self.strata], balance)
        self.edges = np.concatenate([[0.0], np.cumsum(shares)[:-1], [1.0]])

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**63, *key])

    def counts(self) -> Indices:
        """Return the images of each stratum in every epoch up to the current one, int64 (epochs, strata)."""
        offset = (0.5 + _GOLDEN * np.arange(self.epoch + 1)) % 1
        below = np.ceil(self.size * self.edges - offset[:, None])  # points (i + offset) / size below each edge
        return np.asarray(np.diff(below, axis=1), dtype=np.int64)

    def order(self) -> Tensor:
        """Return the epoch's positions, int64 (size,)."""
        counts = self.counts()
        starts = counts[:-1].sum(axis=0)
        drawn = [self._next_rows(number, int(starts[number]), int(count)) for number, count in enumerate(counts[-1])]
        return torch.from_numpy(self._generator(0, self.epoch).permutation(np.concatenate(drawn)))

    def _next_rows(self, stratum: int, start: int, count: int) -> Indices:
        """Return the next rows of a stratum, int64 (count,), after `start` rows in earlier epochs."""
        sources = self.strata[stratum]
        rows = []
        for turn in range(start // len(sources), -(-(start + count) // len(sources))):
            turns = self._generator(1, stratum, turn).permutation(len(sources))
            rows += [sources[i][turn % len(sources[i])] for i in turns]
        return np.array(rows, dtype=np.int64)[start % len(sources) :][:count]


def _by_source(rows: pd.DataFrame) -> list[Indices]:
    """Return the values of the column row for each source."""
    number = rows.groupby(["source", "alone"]).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    return np.split(rows["row"].to_numpy()[order], np.flatnonzero(np.diff(number[order])) + 1)


def _shares(sets: list[str], sources: list[int], balance: float) -> NDArray[np.float64]:
    """Return the share of each class of each set, with sum 1, from its set and its number of sources."""
    _, of = np.unique(sets, return_inverse=True)
    count = np.array(sources, dtype=float)
    class_weight, set_weight = count ** (1 - balance), np.bincount(of, count) ** (1 - balance)
    share = class_weight / np.bincount(of, class_weight)[of] * set_weight[of] / set_weight.sum()
    return np.asarray(share, dtype=np.float64)


def build_sampler(table: pd.DataFrame, data: DataConfig, seed: int) -> EpochSampler:
    """Return the sampler that the `data` group describes for the training rows of a samples table."""
    if data.sampling == "files":
        return ShuffleSampler(len(table), seed, data.epoch_size)
    return BalancedSampler(table, seed, data.balance, data.epoch_size)
