"""Groups from pairs: components of a graph that a single wrong edge cannot join."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from bloodcell.audits.chunks import Array


def agreeing_components(
    nodes: int, first: Array, second: Array, weight: Array, supports: Array, certain: float
) -> Array:
    """Join nodes along edges, strongest first, if enough edges agree.

    Two groups are joined by one certain edge, or by two edges between them that share no node (by one if a group is a
    single node); and more edges must support than oppose the join. So one doubtful edge never joins two groups of
    several nodes, and images whose nuclei differ outvote a chance agreement. Otherwise this is single linkage
    (Kruskal, 1956).

    Each edge has two ends, int (e,), its evidence as its weight, (e,), and supports the join or opposes it, bool (e,).
    It is certain from a given weight.

    Returns:
        The group of each node, int (nodes,): numbered in the order of their first nodes.
    """
    groups = DisjointSet(range(nodes))
    between: dict[int, dict[int, _Evidence]] = defaultdict(dict)
    for edge in np.argsort(-weight, kind="stable"):
        a, b = int(first[edge]), int(second[edge])
        roots = groups[a], groups[b]
        if roots[0] == roots[1]:
            continue
        evidence = between[roots[0]].setdefault(roots[1], _Evidence())
        between[roots[1]][roots[0]] = evidence
        evidence.add(a, b, bool(supports[edge]))
        needed = 1 if weight[edge] >= certain else min(2, groups.subset_size(a), groups.subset_size(b))
        if evidence.supporting >= needed and evidence.supporting > evidence.opposing:
            groups.merge(a, b)
            kept, gone = roots if groups[a] == roots[0] else roots[::-1]
            _merge(between, kept, gone)
    return np.asarray(pd.factorize(np.array([groups[node] for node in range(nodes)], int))[0])


@dataclass
class _Evidence:
    """The edges seen so far between two groups."""

    ends: set[int] = field(default_factory=set)
    supporting: int = 0
    opposing: int = 0

    def add(self, first: int, second: int, supports: bool) -> None:
        if not supports:
            self.opposing += 1
        elif not {first, second} & self.ends:
            self.ends |= {first, second}
            self.supporting += 1

    def absorb(self, other: _Evidence) -> None:
        self.ends |= other.ends
        self.supporting += other.supporting
        self.opposing += other.opposing


def _merge(between: dict[int, dict[int, _Evidence]], kept: int, gone: int) -> None:
    """Move the evidence between one group and all others to the group that it was joined with."""
    mine = between[kept]
    del mine[gone]
    for other, evidence in between.pop(gone).items():
        if other == kept:
            continue
        del between[other][gone]
        if other in mine:
            mine[other].absorb(evidence)
        else:
            mine[other] = between[other][kept] = evidence
