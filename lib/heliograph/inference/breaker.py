"""A circuit breaker (Nygard, Release It!): where the cloud does not answer, nobody waits for it again and again."""

from __future__ import annotations

FAILURES = 3
"""Failures one after the other that open it."""
PROBE_AFTER = 0.5
"""Seconds after which, open, it lets one request through to see."""


class Breaker:
    """Closed it lets all through, open none, half open one. Times are monotonic seconds, handed in."""

    def __init__(self) -> None:
        self._failures = 0
        self._probe_at: float | None = None

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES

    def allows(self, now: float) -> bool:
        """Whether a request may try; of an open one's only the probe that is due."""
        if not self.open:
            return True
        if self._probe_at is None or now < self._probe_at:
            return False
        self._probe_at = now + PROBE_AFTER  # the next one, should this one never tell
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._probe_at = None

    def failed(self, now: float) -> None:
        self._failures += 1
        if self.open:
            self._probe_at = now + PROBE_AFTER
