"""Alignment of two sequences, so that paired elements are as similar as possible. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

V = TypeVar("V")
MOST = 10_000
"""Largest number of candidate pairs; longer sequences are paired by position."""


def align(
    one: Sequence[V], other: Sequence[V], distance: Callable[[V, V], float]
) -> list[tuple[V | None, V | None]]:
    """Return pairs in the order of both sequences, with None for a missing partner; as few elements as possible lack
    one."""
    n, m = len(one), len(other)
    if n * m > MOST or n * m == 0:
        longest = max(n, m)
        return [(one[at] if at < n else None, other[at] if at < m else None) for at in range(longest)]
    between = [[distance(a, b) for b in other] for a in one]
    alone = 1.0 + max(map(max, between))
    cost = [[alone * max(i, j) if not i or not j else 0.0 for j in range(m + 1)] for i in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            cost[i][j] = min(cost[i - 1][j - 1] + between[i - 1][j - 1], cost[i - 1][j] + alone,
                             cost[i][j - 1] + alone)  # fmt: skip
    found: list[tuple[V | None, V | None]] = []
    i, j = n, m
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + between[i - 1][j - 1]:
            i, j = i - 1, j - 1
            found.append((one[i], other[j]))
        elif i and cost[i][j] == cost[i - 1][j] + alone:
            i -= 1
            found.append((one[i], None))
        else:
            j -= 1
            found.append((None, other[j]))
    return found[::-1]
