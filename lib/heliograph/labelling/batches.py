"""Batches: the times at which new tasks open."""

from __future__ import annotations

import math

from heliograph.bus.contract.resources.label_queue import Batches


class BatchClock:
    """Gives each new task the next batch with room. Batches open at multiples of their period since 1970, UTC."""

    def __init__(self) -> None:
        self._opens = 0.0
        self._count = 0

    def next(self, now: float, batches: Batches | None) -> float:
        """Return the time at which a new task opens; 0 where it does at once."""
        if batches is None:
            return 0.0
        upcoming = math.floor(now / batches.every_seconds + 1) * batches.every_seconds
        if self._opens < upcoming:
            self._opens, self._count = upcoming, 0
        if self._count >= batches.size:
            self._opens, self._count = self._opens + batches.every_seconds, 0
        self._count += 1
        return self._opens

    def fill(self, opens: float) -> None:
        """Count a task that is known already to the batch in which it opens."""
        if opens > self._opens:
            self._opens, self._count = opens, 0
        self._count += opens > 0 and opens == self._opens
