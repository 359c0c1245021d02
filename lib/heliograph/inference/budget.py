"""The offload budget: token buckets for requests and for bytes, each with a capacity of one second's rate."""

from __future__ import annotations


class Bucket:
    """A token bucket filled with ``rate`` tokens a second; a rate of None lets everything through."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._tokens = rate or 0.0
        self._filled_at: float | None = None

    def allows(self, amount: float, now: float) -> bool:
        """Refill the bucket and return whether ``amount`` may go now.

        An amount larger than the capacity may go when the bucket is full.
        """
        if self.rate is None:
            return True
        if self._filled_at is not None:
            self._tokens = min(max(self.rate, 1.0), self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        return self._tokens >= min(amount, max(self.rate, 1.0))

    def spend(self, amount: float) -> None:
        self._tokens -= amount


class Budget:
    """Limits on the requests and the bytes offloaded each second."""

    def __init__(self, requests: float | None, size: float | None) -> None:
        self._requests = Bucket(requests)
        self._bytes = Bucket(size)

    def try_spend(self, size: int, now: float) -> bool:
        """Return whether a request of ``size`` bytes may go now, and count it if so."""
        both = self._requests.allows(1, now), self._bytes.allows(size, now)
        if not all(both):
            return False
        self._requests.spend(1)
        self._bytes.spend(size)
        return True
