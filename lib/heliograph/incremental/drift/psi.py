"""The population stability index: how far the distribution of a window lies from that of the first one.

The index is the symmetric divergence of Kullback and Leibler over bins: S. Kullback, R. A. Leibler, On information and
sufficiency, 1951, https://doi.org/10.1214/aoms/1177729694. Above 0.2 is the customary bar of a shift.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence


class PopulationStability:
    """Compares windows of equal size with the first one. It also sees a change that leaves the mean where it was.

    Args:
        window: numbers in a window; by chance alone the index is about twice the number of bins by this.
        bins: bins that hold equal shares of the first window.
        bar: index above which the stream has drifted.
    """

    def __init__(self, window: int = 500, bins: int = 10, bar: float = 0.2) -> None:
        if window < 2 * bins or bins < 2 or bar <= 0:
            raise ValueError("expected 2 bins or more, a window of twice as many numbers, and a bar above 0")
        self._window, self._bins, self._bar = window, bins, bar
        self._values: list[float] = []
        self._edges: list[float] = []
        self._reference: list[int] = []

    def update(self, value: float) -> bool:
        """See ``Detector.update``. What is not a finite number is left out."""
        if not math.isfinite(value):
            return False
        self._values.append(value)
        if len(self._values) < self._window:
            return False
        values, self._values = self._values, []
        if not self._reference:
            self._edges = _edges(sorted(values), self._bins)
            self._reference = _histogram(values, self._edges)
            return False
        if index(self._reference, _histogram(values, self._edges)) <= self._bar:
            return False
        self._reference = []
        return True


def index(expected: Sequence[int], found: Sequence[int]) -> float:
    """Return the index of two histograms over the same bins. An empty bin counts as half a number."""
    n, m = sum(expected) + len(expected) / 2, sum(found) + len(found) / 2
    shares = [((e + 0.5) / n, (f + 0.5) / m) for e, f in zip(expected, found, strict=True)]
    return sum((after - before) * math.log(after / before) for before, after in shares)


def _edges(ordered: Sequence[float], bins: int) -> list[float]:
    return sorted({ordered[len(ordered) * place // bins] for place in range(1, bins)})


def _histogram(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Count between the edges and at each edge: of scores that saturate, many lie on one."""
    counts = [0] * (2 * len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value) + bisect_right(edges, value)] += 1
    return counts
