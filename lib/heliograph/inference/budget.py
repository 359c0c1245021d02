"""What may be sent to the cloud: token buckets for requests and for bytes, each of one second's worth."""

from __future__ import annotations


class Bucket:
    """A token bucket of so many a second; None lets all through."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._held = rate or 0.0
        self._at: float | None = None

    def holds(self, amount: float, now: float) -> bool:
        """Whether that much may go now. One that is larger than a second's worth goes when the bucket is full."""
        if self.rate is None:
            return True
        if self._at is not None:
            self._held = min(max(self.rate, 1.0), self._held + (now - self._at) * self.rate)
        self._at = now
        return self._held >= min(amount, max(self.rate, 1.0))

    def take(self, amount: float) -> None:
        self._held -= amount


class Budget:
    """Requests and bytes a second."""

    def __init__(self, requests: float | None, size: float | None) -> None:
        self._requests = Bucket(requests)
        self._bytes = Bucket(size)

    def takes(self, size: int, now: float) -> bool:
        """Whether a request of that many bytes may go; then it is counted."""
        both = self._requests.holds(1, now), self._bytes.holds(size, now)
        if not all(both):
            return False
        self._requests.take(1)
        self._bytes.take(size)
        return True
