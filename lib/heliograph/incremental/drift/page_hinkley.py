"""The test of Page and Hinkley, on both sides: the mean has moved up or down.

E. S. Page, Continuous inspection schemes, Biometrika 41, 1954. https://doi.org/10.1093/biomet/41.1-2.100
"""

from __future__ import annotations

import math

CLIP = 5.0
"""Deviations beyond this many standard deviations count as this many: one outlier is no drift."""


class PageHinkley:
    """Compares each number with the mean of the first ones, in their standard deviations: thresholds have no unit.

    Args:
        warm_up: numbers that say what is normal.
        slack: standard deviations by which the mean may move.
        threshold: sum of deviations beyond the slack that is a drift; a shift of s is seen after threshold/(s - slack).
    """

    def __init__(self, warm_up: int = 200, slack: float = 0.5, threshold: float = 20.0) -> None:
        if warm_up < 2 or slack < 0 or threshold <= 0:
            raise ValueError("expected warm_up of 2 or more, slack of 0 or more and a threshold above 0")
        self._warm_up, self._slack, self._threshold = warm_up, slack, threshold
        self._deviation = 1.0
        self._up = self._down = 0.0
        self._restart()

    def update(self, value: float) -> bool:
        """See ``Detector.update``. What is not a finite number is left out."""
        if not math.isfinite(value):
            return False
        if self._seen < self._warm_up:
            self._learn(value)
            return False
        deviation = max(-CLIP, min(CLIP, (value - self._mean) / self._deviation))
        self._up = max(0.0, self._up + deviation - self._slack)
        self._down = max(0.0, self._down - deviation - self._slack)
        if max(self._up, self._down) <= self._threshold:
            return False
        self._restart()
        return True

    def _restart(self) -> None:
        self._seen, self._mean, self._squares = 0, 0.0, 0.0
        self._up = self._down = 0.0

    def _learn(self, value: float) -> None:
        """Take a number into mean and variance (Welford's way)."""
        self._seen += 1
        before = value - self._mean
        self._mean += before / self._seen
        self._squares += before * (value - self._mean)
        least = 1e-6 * abs(self._mean) + 1e-12  # a stream that was constant
        self._deviation = max(math.sqrt(self._squares / max(self._seen - 1, 1)), least)
