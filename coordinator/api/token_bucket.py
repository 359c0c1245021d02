"""A token bucket: a steady rate, and a burst for those who have been quiet. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """The most that may be spent: ``per_second`` in the long run, ``burst`` at once."""

    per_second: float
    burst: float


class TokenBucket:
    """What one spender may spend now. It begins full.

    Args:
        now: monotonic seconds, as in every method.
    """

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left = rate.burst
        self._at = now

    def left(self, now: float) -> float:
        """Return what is left, below 0 after more was spent than was left."""
        return min(self._rate.burst, self._left + max(0.0, now - self._at) * self._rate.per_second)

    def take(self, amount: float, now: float) -> bool:
        """Spend ``amount`` if as much is left; return whether it was."""
        left = self.left(now)
        if left < amount:
            return False
        self._left, self._at = left - amount, max(now, self._at)
        return True

    def spend(self, amount: float, now: float) -> None:
        """Spend ``amount``, also where less is left."""
        self._left, self._at = self.left(now) - amount, max(now, self._at)

    def ready_in(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` is left. An amount above the burst counts as the burst."""
        return max(0.0, (min(amount, self._rate.burst) - self.left(now)) / self._rate.per_second)
