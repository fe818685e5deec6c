"""From pairs to groups: components of a graph that a single wrong edge cannot join."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def agreeing_components(
    nodes: int, first: Array, second: Array, weight: Array, supports: Array, certain: float
) -> Array:
    """Join nodes along edges, strongest first, where enough edges agree.

    Two groups are joined by a certain edge, or once two edges between them that share no node support it
    (one, where a group is a single node), and more edges support than oppose it. Groups of two nodes and
    more thus never hang together by one doubtful edge, and a neighbourhood that is seen to show another
    cell outvotes a chance agreement. Single linkage otherwise: Kruskal, 1956.

    Args:
        nodes: Number of nodes.
        first: One end of each edge, int (e,).
        second: The other end, int (e,).
        weight: Evidence of each edge, (e,).
        supports: Whether the edge speaks for the join (True) or against it (False), bool (e,).
        certain: Weight from which one supporting edge is enough, unless as many oppose it.

    Returns:
        The group of each node, int (nodes,): numbered in the order of their first nodes.
    """
    groups = _Groups(nodes)
    for edge in np.argsort(-weight, kind="stable"):
        a, b = groups.find(int(first[edge])), groups.find(int(second[edge]))
        if a == b:
            continue
        ballot = groups.ballot(a, b)
        ballot.add(int(first[edge]), int(second[edge]), bool(supports[edge]))
        if ballot.carried(groups.size[a], groups.size[b], bool(weight[edge] >= certain)):
            groups.join(a, b)
    roots = np.array([groups.find(node) for node in range(nodes)], np.int64)
    _, start, inverse = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(start))[inverse]


class _Ballot:
    """The edges seen so far between two groups."""

    def __init__(self) -> None:
        self.ends: tuple[set[int], set[int]] = set(), set()
        self.supporting = self.opposing = 0

    def add(self, first: int, second: int, supports: bool) -> None:
        if not supports:
            self.opposing += 1
        elif first not in self.ends[0] | self.ends[1] and second not in self.ends[0] | self.ends[1]:
            self.ends[0].add(first)
            self.ends[1].add(second)
            self.supporting += 1

    def absorb(self, other: _Ballot) -> None:
        for mine, new in zip(self.ends, other.ends, strict=True):
            mine |= new
        self.supporting += other.supporting
        self.opposing += other.opposing

    def carried(self, size_a: int, size_b: int, certain: bool) -> bool:
        needed = 1 if certain else min(2, size_a, size_b)
        return self.supporting >= needed and self.supporting > self.opposing


class _Groups:
    """Disjoint sets that remember the ballots between them."""

    def __init__(self, nodes: int) -> None:
        self.parent = list(range(nodes))
        self.size = [1] * nodes
        self.ballots: dict[int, dict[int, _Ballot]] = {}

    def find(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def ballot(self, a: int, b: int) -> _Ballot:
        ballot = self.ballots.setdefault(a, {}).setdefault(b, _Ballot())
        self.ballots.setdefault(b, {})[a] = ballot
        return ballot

    def join(self, a: int, b: int) -> None:
        """Join two roots and hand the smaller one's ballots to the larger."""
        if self.size[a] < self.size[b]:
            a, b = b, a
        self.parent[b] = a
        self.size[a] += self.size[b]
        mine = self.ballots.setdefault(a, {})
        mine.pop(b, None)
        for other, ballot in self.ballots.pop(b, {}).items():
            if other == a:
                continue
            self.ballots[other].pop(b)
            if other in mine:
                mine[other].absorb(ballot)
            else:
                mine[other] = self.ballots[other][a] = ballot
