"""Pauses between attempts: exponential back-off with full jitter, so that a thousand clients do not come at one moment.

The jitter is "full jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): of the
variants there it needs the fewest attempts in all.
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Doubles a ceiling from ``first`` up to ``most`` seconds. Each pause is drawn between 0 and the ceiling.

    Args:
        draw: returns a random number from 0 to 1.
    """

    def __init__(self, draw: Callable[[], float], first: float, most: float) -> None:
        self._draw = draw
        self._first = first
        self._most = most
        self._ceiling = first

    def next(self, least: float = 0.0) -> float:
        """Return the seconds to wait for now, ``least`` or more."""
        ceiling, self._ceiling = self._ceiling, min(2 * self._ceiling, self._most)
        return max(ceiling * self._draw(), least)

    def reset(self) -> None:
        """Begin with the first ceiling again: the last attempt has succeeded."""
        self._ceiling = self._first
