"""How often each label occurs, counted only where the node's operator allows that it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST = 1000
"""Different labels; more are no classes but values, and none is told."""
MAX_LABEL = 64
"""Characters of a label."""


class LabelCounts:
    """Counts labels.

    Args:
        column: the column or array with the labels, where the form has several; None for its usual one.
    """

    def __init__(self, column: str | None = None) -> None:
        self.column = column
        self._counts: Counter[str] = Counter()

    def add(self, label: str, times: int = 1) -> None:
        if len(self._counts) <= MOST:
            self._counts[label[:MAX_LABEL]] += times

    def add_all(self, labels: Iterable[str]) -> None:
        if len(self._counts) <= MOST:
            for label, times in Counter(labels).items():
                self.add(label, times)

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples of each label, sorted by label; empty where there are more than ``MOST``."""
        return {} if len(self._counts) > MOST else dict(sorted(self._counts.items()))
