"""Pauses between attempts that grow, with jitter, so that a thousand clients do not come at the same moment."""

from __future__ import annotations

from collections.abc import Callable

MOST_PAUSE = 15.0


class Backoff:
    """Doubles a pause from ``first`` up to ``most`` seconds. Each one is between half of it and all of it.

    Args:
        draw: returns a random number from 0 to 1.
    """

    def __init__(self, draw: Callable[[], float], first: float = 0.5, most: float = MOST_PAUSE) -> None:
        self._draw = draw
        self._first = first
        self._most = most
        self._next = first

    def next(self, least: float = 0.0) -> float:
        """Return the seconds to wait for now, ``least`` or more."""
        pause, self._next = self._next, min(2 * self._next, self._most)
        return max(pause * (0.5 + self._draw() / 2), least)

    def reset(self) -> None:
        """Begin with the first pause again: the last attempt has succeeded."""
        self._next = self._first
